"""What one value of a configuration says about another: references, pins, hours, addresses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from agent.model.letters import ANGLE, CAPITAL, ROOM, letter_px
from agent.model.orders import ITEM_KINDS, Item
from agent.model.problem import MISSING, SEE_EXAMPLES, Text, listed, nearest


class Wrong(Protocol):
    """Notes a mistake at a path."""

    def __call__(self, path: str, reason: Text, remedy: Text) -> None:
        """Note it."""


class Relations:
    """What one value says about another. Works on whatever could be read, so it runs beside other mistakes."""

    def __init__(self, wrong: Wrong, values: Any) -> None:
        self.wrong = wrong
        self.station: dict[str, Any] = values if isinstance(values, dict) else {}
        self.ids = {kind: set(self.words(kind)) for kind in ("zones", "relays", "messages", "sources")}

    def entries(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The readable entries of a list of the file, each with its path."""
        values = self.station.get(name)
        for i, entry in enumerate(values if isinstance(values, list) else []):
            if isinstance(entry, dict):
                yield f"{name}[{i}]", entry

    def words(self, name: str) -> list[str]:
        """The readable ids of a list."""
        return [e["id"] for _, e in self.entries(name) if isinstance(e.get("id"), str)]

    def group(self, name: str) -> dict[str, Any]:
        """A group of values, {} if there is none."""
        value = self.station.get(name)
        return value if isinstance(value, dict) else {}

    def check(self) -> None:
        """Every check, each on its own."""
        for name in ("zones", "relays", "buttons", "messages", "sources", "clusters", "monitors", "sensors"):
            self.once(
                ((f"{p}.id", e.get("id")) for p, e in self.entries(name)),
                lambda value, first: Text("The id “{value}” is already used by {first}.", value=value, first=first),
                Text("Give each entry an id of its own."),
            )
        self.once(
            self.pins(),
            lambda value, first: Text("Pin {value} is already used by {first}.", value=value, first=first),
            Text("Give each relay and each button a pin of its own."),
        )
        self.lamps()
        self.once(
            ((f"{p}.output.dir", _member(e.get("output"), "dir")) for p, e in self.entries("zones")),
            lambda _, first: Text("{first} already writes its pictures there.", first=first),
            Text("Give each board a folder of its own."),
        )
        self.interlocks()
        self.amplifiers()
        self.once(
            ((f"{p}.output.device", device) for p, e in self.entries("zones") if (device := _frame_buffer(e))),
            lambda _, first: Text("{first} already shows its pictures there.", first=first),
            Text("Give each board an output of its own."),
        )
        self.timezone()
        self.hosts()
        self.signing()
        self.hardware()
        self.microphone()
        for path, zone in self.entries("zones"):
            self.zone(path, zone)
        for name in ("monitors", "sensors"):
            for path, entry in self.entries(name):
                self.listener(path, name, entry)
        for i, selector in enumerate(_words(self.group("self_test").get("zones"))):
            self.selector(f"self_test.zones[{i}]", selector)
        for path, button in self.entries("buttons"):
            self.button(path, button)
        texts = {f"button-{b.get('id')}" for _, b in self.entries("buttons") if _member(b.get("action"), "text")}
        for path, message in self.entries("messages"):
            if message.get("id") in texts:
                self.wrong(
                    f"{path}.id",
                    Text("The text of a button has this id already."),
                    Text("Give the message another id."),
                )
            if isinstance(message.get("text"), str) and not message["text"].strip():
                self.wrong(f"{path}.text", Text("The message has no words."), Text("Write what is to be spoken."))
        for path, source in self.entries("sources"):
            self.source(path, source)
        self.clusters()

    def pins(self) -> Iterator[tuple[str, Any]]:
        """Every use of a pin. A key switch may serve several buttons: it counts once."""
        for name in ("relays", "buttons"):
            for path, entry in self.entries(name):
                yield f"{path}.pin", entry.get("pin")
                for contact in ("pin", "rest_pin"):
                    yield f"{path}.feedback.{contact}", _member(entry.get("feedback"), contact)
        keys: set[Any] = set()
        for path, button in self.entries("buttons"):
            lamp, key = button.get("lamp"), button.get("key_switch")
            yield f"{path}.lamp", lamp if isinstance(lamp, int) else None
            yield f"{path}.key_switch", None if key in keys else key
            keys.add(key)

    def lamps(self) -> None:
        """A lamp is a relay that nothing else switches."""
        named = [(f"{p}.lamp", e.get("lamp")) for p, e in self.entries("buttons") if isinstance(e.get("lamp"), str)]
        chains: dict[Any, str] = {}
        for path, zone in self.entries("zones"):
            for i, step in _dicts(zone.get("power")):
                chains.setdefault(_text(step.get("relay")), f"{path}.power[{i}]")
            chains.setdefault(_text(_member(zone.get("idle"), "relay")), f"{path}.idle")
        for path, relay in named:
            self.known(path, relay, "relays")
            if relay in chains:
                self.wrong(
                    path,
                    Text("The relay “{value}” is already switched in {first}.", value=relay, first=chains[relay]),
                    Text("Give the lamp a relay or a pin of its own."),
                )
        self.once(
            named,
            lambda value, first: Text("“{value}” is already the lamp of {first}.", value=value, first=first),
            Text("Give the lamp a relay or a pin of its own."),
        )

    def interlocks(self) -> None:
        """A relay that needs another comes after it in every chain; none excludes itself or what it needs."""
        chains = [(path, self.chain(zone)) for path, zone in self.entries("zones")]
        for path, relay in self.entries("relays"):
            name = relay.get("id")
            needed, barred = _words(relay.get("requires")), _words(relay.get("excludes"))
            for kind, names in (("requires", needed), ("excludes", barred)):
                for i, other in enumerate(names):
                    self.known(f"{path}.{kind}[{i}]", other, "relays")
                    if other == name or (kind == "excludes" and other in needed):
                        self.wrong(
                            f"{path}.{kind}[{i}]",
                            Text("The relay could never be switched on."),
                            Text("Name another relay here, or delete this line."),
                        )
            for where, chain in chains:
                for other in needed if name in chain else ():
                    if other in self.ids["relays"] and other not in chain[: chain.index(name)]:
                        self.wrong(
                            where,
                            Text("“{relay}” needs “{other}” to be on before it.", relay=name, other=other),
                            Text("Name “{other}” before “{relay}” under “power:”.", relay=name, other=other),
                        )
                for other in barred if name in chain else ():
                    if other in chain:
                        self.wrong(
                            where,
                            Text("“{relay}” and “{other}” are never on together.", relay=name, other=other),
                            Text("Take one of them out of this zone's “power:”."),
                        )

    def amplifiers(self) -> None:
        """The lines of one amplifier get the same samples: one output, one delay."""
        first: dict[str, tuple[str, dict[str, Any]]] = {}
        for path, zone in self.entries("zones"):
            name = zone.get("amplifier")
            if not isinstance(name, str):
                continue
            where, other = first.setdefault(name, (path, zone))
            for key, default in (("output", None), ("delay_ms", 0.0)):
                if zone.get(key, default) != other.get(key, default):
                    self.wrong(
                        f"{path}.{key}",
                        Text("{first} is a line of the same amplifier and has another “{key}”.", first=where, key=key),
                        Text("Write the same there and here; what differs needs an amplifier of its own."),
                    )

    @staticmethod
    def chain(zone: dict[str, Any]) -> list[Any]:
        """The relays of a zone in the order in which they are switched on."""
        idle = zone.get("idle")
        return [_member(idle, "relay"), *(step.get("relay") for _, step in _dicts(zone.get("power")))]

    def once(self, values: Iterable[tuple[str, Any]], reason: Callable[[Any, str], Text], remedy: Text) -> None:
        """Each value at most once."""
        seen: dict[Any, str] = {}
        for path, value in values:
            if value is None or value is MISSING:
                continue
            if value in seen:
                self.wrong(path, reason(value, seen[value]), remedy)
            else:
                seen[value] = path

    def known(self, path: str, name: Any, kind: str) -> None:
        """A reference to an entry of the list `kind`."""
        if not isinstance(name, str) or name in self.ids[kind]:
            return
        guess = nearest(name, self.ids[kind])
        if guess:
            remedy = Text("Did you mean “{guess}”?", guess=guess)
        elif self.ids[kind]:
            remedy = Text("There are: {known}.", known=listed(self.words(kind)))
        else:
            remedy = Text("Add an entry with this id under “{kind}:”.", kind=kind)
        self.wrong(path, Text("There is no “{name}” under “{kind}:”.", name=name, kind=kind), remedy)

    def clusters(self) -> None:
        """A cluster runs Trạm itself, and is reached over the link, or carries a zone; only it has a parent."""
        link = self.station.get("cluster_link", None)
        self.once(
            ((f"{p}.device", c.get("device")) for p, c in self.entries("clusters")),
            lambda value, first: Text("The id “{value}” is already used by {first}.", value=value, first=first),
            Text("Give each entry an id of its own."),
        )
        for path, cluster in self.entries("clusters"):
            self.known(f"{path}.zone", cluster.get("zone"), "zones")
            if cluster.get("device", None) is None:
                continue
            if cluster.get("zone", None) is not None:
                self.wrong(
                    f"{path}.zone",
                    Text("The cluster is given a device and a zone."),
                    Text("Keep “device” if it runs Trạm itself, “zone” if it carries the sound of this station."),
                )
            if link is None:
                self.wrong(
                    f"{path}.device",
                    Text("The cluster runs Trạm itself, but the station has no link for it."),
                    Text("Add “cluster_link:” with “host: …” and the others of its keys."),
                )
        own = self.group("device").get("role", "station")
        if self.station.get("parent", None) is not None and own == "station":
            self.wrong(
                "parent",
                Text("A station has no parent."),
                Text("Write “role: cluster” or “role: board” under “device:”, or delete “parent:”."),
            )

    def timezone(self) -> None:
        """The time zone's rules are on this machine."""
        name = self.station.get("timezone")
        if not isinstance(name, str):
            return
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            guess = nearest(name, {z.lower(): z for z in available_timezones()})
            exact = next((z for z in available_timezones() if z.lower() == guess), "Asia/Ho_Chi_Minh")
            self.wrong(
                "timezone",
                Text("There is no time zone “{name}”.", name=name),
                Text("Did you mean “{guess}”?", guess=exact),
            )

    def hosts(self) -> None:
        """Names of machines, without scheme, path and (for the broker) port."""
        for section in ("mqtt", "parent", "cluster_link"):
            host = self.group(section).get("host")
            if isinstance(host, str) and not re.fullmatch(
                r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", host, re.ASCII
            ):
                self.wrong(
                    f"{section}.host",
                    Text("“{host}” is not the name of a machine.", host=host[:60]),
                    Text("Write only the name, as “nguon.example.vn”; the port has a line of its own, “port:”."),
                )
        hosts = self.group("content").get("allowed_hosts")
        for i, host in enumerate(hosts if isinstance(hosts, list) else []):
            if isinstance(host, str) and not re.fullmatch(
                r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?", host, re.ASCII
            ):
                self.wrong(
                    f"content.allowed_hosts[{i}]",
                    Text("“{host}” is not the name of a machine.", host=host[:60]),
                    Text("Write “name” or “name:port”, without https:// and without a path."),
                )

    def signing(self) -> None:
        """The station's own key and its authority belong together."""
        trust = self.group("trust")
        for one, other in (("station_key", "station_authority"), ("station_authority", "station_key")):
            if trust.get(one) and trust.get(other, None) is None:
                self.wrong(
                    f"trust.{one}",
                    Text("“{one}” is given without “{other}”.", one=one, other=other),
                    Text("Give both, so that the commune can sign its own programmes, or neither."),
                )

    def hardware(self) -> None:
        """Virtual hardware needs the socket through which it is moved."""
        hardware = self.group("hardware")
        for name in ("gpio", "clock"):
            if hardware.get(name) == "virtual" and hardware.get("control", None) is None:
                self.wrong(
                    f"hardware.{name}",
                    Text("Virtual hardware needs a control socket."),
                    Text("Add “control: path” under “hardware:”, or delete “{name}: virtual”.", name=name),
                )

    def zone(self, path: str, zone: dict[str, Any]) -> None:
        """Output of the right kind, relays that exist, hours that are hours."""
        self.output(f"{path}.output", zone.get("kind"), zone.get("output"))
        chain = _dicts(zone.get("power"))
        for i, step in chain:
            self.known(f"{path}.power[{i}].relay", step.get("relay"), "relays")
        self.once(
            ((f"{path}.power[{i}].relay", step.get("relay")) for i, step in chain),
            lambda value, first: Text("The relay “{value}” is already switched in {first}.", value=value, first=first),
            Text("Name each relay once in a power chain."),
        )
        idle = zone.get("idle")
        if isinstance(idle, dict):
            self.known(f"{path}.idle.relay", idle.get("relay"), "relays")
            if idle.get("source") == "external" and idle.get("relay", None) is None:
                self.wrong(
                    f"{path}.idle",
                    Text("An external source needs the change-over relay that lets it through."),
                    Text("Add “relay: …” with the id of that relay."),
                )
            elif idle.get("source", "silent") == "silent" and isinstance(idle.get("relay"), str):
                self.wrong(
                    f"{path}.idle.relay",
                    Text("The relay is never switched, because the zone is silent when idle."),
                    Text("Write “source: external”, or delete this line."),
                )
            for i, step in _dicts(idle.get("power")):
                self.known(f"{path}.idle.power[{i}].relay", step.get("relay"), "relays")
            for i, value in enumerate(idle.get("hours") or [] if isinstance(idle.get("hours"), list) else []):
                self.hours(f"{path}.idle.hours[{i}]", value)
            if bool(idle.get("power")) != bool(idle.get("hours")):
                self.wrong(
                    f"{path}.idle",
                    Text("“power” and “hours” of an external source belong together."),
                    Text("Give both: the relays that let it be heard, and when; or neither."),
                )
        rules = zone.get("rules")
        if isinstance(rules, dict):
            hours = rules.get("quiet_hours")
            for i, value in enumerate(hours if isinstance(hours, list) else []):
                self.hours(f"{path}.rules.quiet_hours[{i}]", value)
            agreed = rules.get("requisition_hours")
            for i, value in enumerate(agreed if isinstance(agreed, list) else []):
                self.hours(f"{path}.rules.requisition_hours[{i}]", value)
            if agreed and _member(idle, "source") != "external":
                self.wrong(
                    f"{path}.rules.requisition_hours",
                    Text("Nothing is taken over here, because the zone has no external source."),
                    Text("Add “idle:” with “source: external” and the change-over relay, or delete this line."),
                )
            for i, cap in _dicts(rules.get("caps")):
                self.hours(f"{path}.rules.caps[{i}].hours", cap.get("hours"))

        self.board(path, zone)

    def board(self, path: str, zone: dict[str, Any]) -> None:
        """Only of screens; hours that are hours; letters that can be read from where people stand."""
        board = zone.get("board")
        if not isinstance(board, dict):
            return
        if zone.get("kind") == "sound":
            self.wrong(
                f"{path}.board", Text("A sound zone has no board."), Text("Delete this line, or write “kind: screen”.")
            )
        for i, dim in _dicts(board.get("brightness")):
            self.hours(f"{path}.board.brightness[{i}].hours", dim.get("hours"))
        pitch, metres, height = board.get("pitch_mm"), board.get("viewing_m"), _member(zone.get("output"), "height")
        for one, other in (("pitch_mm", "viewing_m"), ("viewing_m", "pitch_mm")):
            if board.get(one) is not None and board.get(other, None) is None:
                self.wrong(
                    f"{path}.board.{one}",
                    Text("“{one}” is given without “{other}”.", one=one, other=other),
                    Text("Give both: the size of letters follows from them."),
                )
        numbers = [v for v in (pitch, metres, height) if isinstance(v, int | float)]
        if len(numbers) == 3 and numbers[0] > 0 and letter_px(numbers[0], numbers[1]) * ROOM > numbers[2]:
            most = numbers[2] / ROOM * numbers[0] / 1000 * CAPITAL / math.tan(ANGLE)
            self.wrong(
                f"{path}.board.viewing_m",
                Text("From {metres} m two lines of readable letters do not fit on this board.", metres=metres),
                Text("Write at most {most} m, which is what this board can serve.", most=math.floor(most)),
            )

    def listener(self, path: str, name: str, entry: dict[str, Any]) -> None:
        """A receiver, microphone or sensor belongs to a sound zone and has what its driver needs."""
        zone = entry.get("zone")
        self.known(f"{path}.zone", zone, "zones")
        if any(z.get("id") == zone and z.get("kind") == "screen" for _, z in self.entries("zones")):
            self.wrong(
                f"{path}.zone",
                Text("“{zone}” is a screen zone: nothing can be heard there.", zone=zone),
                Text("Name a sound zone."),
            )
        driver = entry.get("driver", "alsa" if name == "monitors" else None)
        key = {"alsa": "device", "wav": "path", "pipe": "path"}.get(str(driver))
        if key is not None and entry.get(key) is None:
            self.wrong(
                path,
                Text("The driver “{driver}” needs “{key}”.", driver=driver, key=key),
                Text("Add a line “{key}: …”.", key=key),
            )
        if name == "sensors" and driver == "virtual" and self.group("hardware").get("control", None) is None:
            self.wrong(
                f"{path}.driver",
                Text("Virtual hardware needs a control socket."),
                Text("Add “control: path” under “hardware:”, or delete “{name}: virtual”.", name="driver"),
            )
        low, high = entry.get("open_below_ma") or 0, entry.get("short_above_ma") or 0
        if isinstance(low, int | float) and isinstance(high, int | float) and low and high and low >= high:
            self.wrong(
                f"{path}.open_below_ma",
                Text("No current lies between open and short."),
                Text("Give a lower value here than in “short_above_ma”."),
            )

    def output(self, path: str, kind: Any, output: Any) -> None:
        """A sound zone has a sound output, a screen zone a screen output; copies go to the same kind."""
        driver = _member(output, "driver")
        if kind == "sound" and driver in {"png", "hdmi"}:
            self.wrong(
                f"{path}.driver",
                Text("A sound zone cannot have the screen output “{driver}”.", driver=driver),
                Text("Use “alsa”, “rtp” or “wav”, or write “kind: screen”."),
            )
        elif kind == "screen" and driver in {"wav", "alsa", "rtp"}:
            self.wrong(
                f"{path}.driver",
                Text("A screen zone cannot have the sound output “{driver}”.", driver=driver),
                Text("Use “hdmi” or “png”, or write “kind: sound”."),
            )
        else:
            for i, copy in _dicts(_member(output, "also")):
                self.output(f"{path}.also[{i}]", kind, copy)

    def hours(self, path: str, value: Any) -> None:
        """A span of the day that is neither empty nor beyond midnight's 24:00."""
        if not isinstance(value, str):
            return
        start, _, end = value.partition("-")
        if start == end or end > "24:00":
            self.wrong(
                path,
                Text("“{value}” is not a part of the day.", value=value),
                Text("Write start and end, as “21:30-05:00”; a whole day is “00:00-24:00”."),
            )

    def button(self, path: str, button: dict[str, Any]) -> None:
        """A button does one thing, in zones that exist."""
        action = button.get("action")
        if isinstance(action, dict) and MISSING not in action.values():
            things = [
                action.get("message") is not None,
                action.get("text") is not None,
                bool(action.get("stop")),
                bool(action.get("silence")),
                bool(action.get("microphone")),
            ]
            if things.count(True) != 1:
                self.wrong(
                    f"{path}.action",
                    Text(
                        "A button either plays one message, speaks one text, opens the microphone, stops or silences."
                    ),
                    Text("Write one of: “message: …”, “text: …”, “microphone: true”, “stop: true”, “silence: true”."),
                )
            self.known(f"{path}.action.message", action.get("message"), "messages")
            self.talk(f"{path}.action", action)
        selectors = button.get("zones")
        if isinstance(selectors, list):
            if not selectors:
                self.wrong(f"{path}.zones", Text("The button has no zone."), Text('Write ["*"] for all zones.'))
            for i, selector in enumerate(selectors):
                self.selector(f"{path}.zones[{i}]", selector)

    def talk(self, path: str, action: dict[str, Any]) -> None:
        """A microphone button needs a microphone; how a thing is used is said of no button without it."""
        if action.get("microphone") and self.station.get("microphone") is None:
            self.wrong(
                f"{path}.microphone",
                Text("The button opens a microphone, but the station has none."),
                Text("Add “microphone:” with “device: …”, the sound card's ALSA name (list them with: arecord -L)."),
            )
        text = isinstance(action.get("text"), str)
        if text and not action["text"].strip():
            self.wrong(f"{path}.text", Text("The message has no words."), Text("Write what is to be spoken."))
        belongs = [("microphone: true", "microphone", ("mode", "longest_s"))]
        belongs.append(("text: …", "text", ("lang", "repeat")))
        for line, other, keys in belongs:
            for key in keys if not action.get(other) else ():
                if key in action:
                    self.wrong(
                        f"{path}.{key}",
                        Text("“{key}” belongs to a button with “{other}”.", key=key, other=other),
                        Text("Delete this line, or write “{line}”.", line=line),
                    )
        if "chime" in action and not (text or action.get("microphone")):
            self.wrong(
                f"{path}.chime",
                Text("“{key}” belongs to a button with “{other}”.", key="chime", other="microphone"),
                Text("Delete this line: a stored message has a chime of its own."),
            )

    def microphone(self) -> None:
        """Each driver has what it needs, and no message takes the microphone's name."""
        microphone = self.station.get("microphone")
        if not isinstance(microphone, dict):
            return
        driver = microphone.get("driver", "alsa")
        key = "path" if driver == "wav" else "device"
        if driver in {"alsa", "wav"} and microphone.get(key, None) is None:
            self.wrong(
                "microphone",
                Text("The microphone's driver “{driver}” needs “{key}”.", driver=driver, key=key),
                Text("Add a line “{key}: …” under “microphone:”.", key=key),
            )
        for path, message in self.entries("messages"):
            if message.get("id") == "microphone":
                self.wrong(
                    f"{path}.id",
                    Text("The id “microphone” means the live microphone."),
                    Text("Give the message another id."),
                )

    def selector(self, path: str, selector: Any) -> None:
        """A zone selector that matches at least one zone."""
        if not isinstance(selector, str) or selector == "*":
            return
        prefix, colon, rest = selector.partition(":")
        fleet = [cluster for _, cluster in self.entries("clusters") if cluster.get("device", None) is not None]
        zones = [zone for _, zone in self.entries("zones")] + fleet
        if selector in {cluster.get("id") for cluster in fleet}:
            return
        tagged = [z["tags"] for z in zones if isinstance(z.get("tags"), list)]
        tags = {tag for tags in tagged for tag in tags if isinstance(tag, str)}
        if not colon:
            self.known(path, selector, "zones")
        elif prefix == "kind" and rest not in {z.get("kind") for z in zones if isinstance(z.get("kind"), str)}:
            self.wrong(
                path,
                Text("No zone is of the kind “{kind}”.", kind=rest),
                Text("Write “kind:sound” or “kind:screen”, whichever this station has."),
            )
        elif prefix == "tag" and rest not in tags:
            guess = nearest(rest, tags)
            remedy = Text("Add this tag under “tags:” of a zone.")
            if guess:
                remedy = Text("Did you mean “{guess}”?", guess=f"tag:{guess}")
            self.wrong(path, Text("No zone has the tag “{tag}”.", tag=rest), remedy)
        elif prefix not in {"kind", "tag"}:
            self.wrong(
                path,
                Text("“{value}” does not select a zone.", value=selector[:60]),
                Text("Write a zone's id, “*”, “kind:sound”, “kind:screen” or “tag:…”."),
            )

    def source(self, path: str, source: dict[str, Any]) -> None:
        """An address without a password, and a fallback that can be played."""
        url = source.get("url")
        if isinstance(url, str):
            self.url(f"{path}.url", url)
        fallback = source.get("fallback")
        if isinstance(fallback, dict):
            self.item(f"{path}.fallback", fallback, source.get("id"))
        for i, item in _dicts(fallback):
            self.item(f"{path}.fallback[{i}]", item, source.get("id"))

    def url(self, path: str, url: str) -> None:
        """An absolute address; one with a password in it is a secret in the wrong place."""
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(url)
            password, usable = parts.password, bool(parts.scheme and (parts.netloc or parts.path)) and "://" in url
        except ValueError:
            password, usable = None, False
        if password is not None:
            self.wrong(
                path,
                Text("The address contains a password."),
                Text("Secrets do not belong in this file: ask the source for an address without one."),
            )
        elif not usable or re.search(r"\s", url):
            self.wrong(
                path,
                Text("“{url}” is not an address.", url=url[:60]),
                Text("Write the whole address of the stream, as “https://nguon.example.vn/live.mp3”."),
            )

    def item(self, path: str, item: dict[str, Any], source: Any) -> None:
        """A fallback item: of one kind, naming what exists."""
        if MISSING in item.values():
            return
        kinds = [k for k in ITEM_KINDS if item.get(k) is not None]
        if len(kinds) != 1:
            self.wrong(
                path,
                Text("An item is of exactly one kind, but here are {count}.", count=len(kinds)),
                Text("Give exactly one of: {known}.", known=listed(ITEM_KINDS)),
            )
            return
        try:
            msgspec.convert(item, Item)
        except msgspec.ValidationError as error:
            self.wrong(path, Text("The item is not complete: {detail}.", detail=error), SEE_EXAMPLES)
        self.known(f"{path}.local", item.get("local"), "messages")
        self.known(f"{path}.relay", item.get("relay"), "sources")
        if source is not None and item.get("relay") == source:
            self.wrong(
                f"{path}.relay",
                Text("The source is its own fallback."),
                Text("Name another source, a stored message (local) or a file (media)."),
            )


def _frame_buffer(zone: dict[str, Any]) -> Any:
    """The device of an HDMI output, its default included."""
    output = zone.get("output")
    return output.get("device", "/dev/fb0") if isinstance(output, dict) and output.get("driver") == "hdmi" else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _words(values: Any) -> list[str]:
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _dicts(values: Any) -> list[tuple[int, dict[str, Any]]]:
    return [(i, v) for i, v in enumerate(values) if isinstance(v, dict)] if isinstance(values, list) else []
