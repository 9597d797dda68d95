"""The demo's day in xã Mẫu: what happens when, in seconds after the station is online."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from agent.link import topics
from agent.trust.keys import generate
from agent.trust.signer import Signer
from province.content_server import Live, encode_live, encode_silence
from province.demo import boards, sounds
from province.demo.stage import DEVICE, Stage
from province.record import Taken
from province.store import Signed

TZ = ZoneInfo("Asia/Ho_Chi_Minh")
END_S = 77.0
NOTICE_S = 54.0
"""When the commune's own notice is due: the bulletin is over, and the storm will take the notice over."""

RADIO = "Đây là Đài Phát thanh tỉnh. Sau đây là bản tin thời sự buổi chiều."
BULLETIN = (
    "Thông báo của Sở Y tế về phòng, chống dịch sốt xuất huyết.",
    "Từ 20/11 đến 30/11/2026, các xã diệt lăng quăng, ngủ mùng cả ban ngày.",
    "Sốt trên 38,5 °C quá 2 ngày, đến ngay trạm y tế.",
    "Xin gọi 02943.123.456, từ 7h30.",
)
NOTICE = (
    "Ủy ban nhân dân xã Mẫu thông báo: 7h30 sáng thứ bảy, mời bà con ấp 3 đến nhà văn hóa họp bàn việc nạo vét kênh. "
    "Mỗi hộ cử 1 người, mang theo cuốc, xẻng. Lịch bơm nước đợt 2 bắt đầu từ 5h ngày 25/11. "
    "Bà con ấp 1, ấp 2 dọn cỏ bờ kênh trước ngày 24/11. Xin cảm ơn bà con đã chú ý lắng nghe."
)
STORM = "Khẩn cấp. Bão số 9 cấp 12. Bà con sơ tán ngay."
STORM_EN = "Typhoon 9 tonight. Leave the coast now."
"""For guests who do not read Vietnamese: an alert says and shows both in turn."""
ATTACK = "Đây là tiếng nói của kẻ lạ. Không ai được nghe thấy câu này trên loa của xã."

Say = Callable[..., None]


class Attack:
    """One thing an attacker tries, and the reason with which it must be refused."""

    def __init__(self, name: str, expected: str, where: str) -> None:
        self.name = name
        self.expected = expected
        self.where = where
        """"event" (metered refusal) or "ack"."""
        self.sha256 = ""
        self.jti = ""


class Sounds:
    """Everything that is spoken, made before the station starts."""

    def __init__(self, out: Path) -> None:
        self._make = out / "make"
        self._make.mkdir(parents=True, exist_ok=True)
        kinds = [("mp3", 44_100, 2), ("opus", 48_000, 1), ("m4a", 44_100, 2), ("flac", 22_050, 1)]
        with ThreadPoolExecutor() as workers:
            radio = workers.submit(self._make_radio)
            bulletin = [
                workers.submit(self._make_item, n, text, *kind)
                for n, (text, kind) in enumerate(zip(BULLETIN, kinds, strict=True))
            ]
            notice = workers.submit(self._make_item, len(BULLETIN), NOTICE, "mp3", 44_100, 1)
            slides = [
                workers.submit(boards.photograph, self._make / "anh.jpg"),
                workers.submit(boards.film, self._make / "phim.mp4"),
            ]
            attack = workers.submit(sounds.speak, ATTACK, self._make / "attack.wav")
            silence = workers.submit(encode_silence, self._make / "silence.mp3")
            self.bulletin = [item.result() for item in bulletin]
            self.notice, self.attack, self.radio = notice.result(), attack.result(), radio.result()
            self.slides = [slide.result() for slide in slides]
            self.live = Live(self.radio, 64, silence=silence.result(), burst_s=1.0)

    def _make_radio(self) -> Path:
        make = self._make
        tune = sounds.tune(make / "tune.wav", [392.0, 494.0, 587.0, 494.0], 0.9)
        words = sounds.speak(RADIO, make / "radio.wav")
        return encode_live(sounds.join([tune, words], make / "live.wav"), make / "live.mp3")

    def _make_item(self, number: int, text: str, kind: str, rate: int, channels: int) -> Path:
        wav = sounds.speak(text, self._make / f"item-{number}.wav", rate=rate, channels=channels)
        return sounds.encode(wav, self._make / f"item-{number}.{kind}")


class Day:
    """Plays the day on a stage. `say(what, text, figure="", **more)` tells what happens."""

    def __init__(self, stage: Stage, made: Sounds, say: Say, seconds: float = END_S) -> None:
        self.stage = stage
        self.made = made
        self.say = say
        self.seconds = seconds
        self.t0 = 0.0
        self.attacks: list[Attack] = []
        self.expect: dict[str, Any] = {"due": {}, "triggers": {}, "heard": [], "resume": {}, "silent": []}
        self.orders: dict[str, Signed] = {}
        self.outage: tuple[float, float] | None = None

    def play(self) -> None:
        """Run all scenes that fall within the time. Blocks until the end."""
        scenes: list[tuple[float, Callable[[], None]]] = [
            (0.0, self._morning),
            (12.0, self._offer),
            (18.0, self._accept),
            (24.0, self._broker_dies),
            (32.0, self._button),
            (45.0, self._broker_returns),
            (48.0, self._show_again),
            (50.0, self._attacker),
            (58.0, self._storm),
            (72.0, self._silence),
        ]
        self.t0 = float(int(time.time()) + 1)
        for at, scene in scenes:
            if at >= self.seconds - 3.0:
                break
            self._until(at)
            scene()
        self._until(self.seconds)

    def _until(self, at: float) -> None:
        time.sleep(max(0.0, self.t0 + at - time.time()))

    def _time(self, at: float) -> str:
        return datetime.fromtimestamp(self.t0 + at, TZ).isoformat()

    # scenes

    def _morning(self) -> None:
        relay = {
            "id": "tiep-am-chieu",
            "title": "Tiếp âm Đài Phát thanh tỉnh",
            "class": "normal",
            "dtstart": self._time(8.0),
            "rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU",
            "zones": ["kind:sound"],
            "items": [{"chime": "gong"}, {"relay": "dai-tinh", "duration_s": 7}],
            "resume": "continue",
            "on_late": "join",
            "approved_by": "Chủ tịch UBND xã Mẫu",
        }
        self._show_slides()
        order = self._sign("commune", "schedule", {"scope": DEVICE, "entries": [relay]}, name="schedule")
        self.stage.publisher.send(order)
        self.expect["due"]["tiep-am-chieu"] = self.t0 + 8.0
        self.expect["heard"].append("tiep-am-chieu")
        self.say("order", "Xã gửi lịch phát: tiếp âm lúc " + self._time(8.0)[11:19])
        said = self._tram(
            "add", str(self.made.notice), "--title", "Thông báo của UBND xã", "--at", self._time(NOTICE_S),
            "--zones", "kind:sound,bang-qc", "--approved-by", "Nguyễn Thị Mẫu, Phó Chủ tịch UBND xã",
        )  # fmt: skip
        added = re.search(r"xa-\d+", said)
        if added:
            self.expect["due"][added[0]] = self.t0 + NOTICE_S

    def _show_slides(self) -> None:
        """On the board alone: a photograph, a film, and a text that is too long for one sheet."""
        items: list[dict[str, Any]] = []
        for path, dwell in zip(self.made.slides, (2.5, 3.5), strict=True):
            items.append({"media": msgspec.to_builtins(self.stage.province.media(path)), "dwell_s": dwell})
        items.append({"text": " ".join((NOTICE, *BULLETIN)), "lang": "vi", "dwell_s": 7.5})
        args = self._broadcast(boards.SLIDES, "Tin của xã Mẫu", "normal", items, resume="drop")
        self._publish("commune", {**args, "zones": ["bang-tin"]})
        self.say("order", "Xã gửi trình chiếu cho bảng tin: ảnh, phim, thông báo dài")

    def _show_again(self) -> None:
        """The photograph in turn with a text, for half a minute: the storm interrupts it, and it comes back."""
        photo = msgspec.to_builtins(self.stage.province.media(self.made.slides[0]))
        items = [{"media": photo, "dwell_s": 2.0}, {"text": BULLETIN[2], "lang": "vi", "dwell_s": 2.0}]
        args = self._broadcast(boards.SLIDES_AGAIN, "Tin của xã Mẫu", "normal", items, resume="restart")
        self._publish("commune", {**args, "zones": ["bang-tin"], "until": self._time(76.0)})
        self.say("order", "Xã gửi trình chiếu nữa cho bảng tin")

    def _offer(self) -> None:
        items: list[dict[str, Any]] = [{"chime": "gong"}]
        for path in self.made.bulletin:
            media = self.stage.province.media(path)
            items.append({"media": msgspec.to_builtins(media)})
        args = self._broadcast("bt-sot-xuat-huyet", "Phòng, chống sốt xuất huyết", "normal", items, resume="continue")
        self._publish("province", args)
        self.expect["heard"].append(args["id"])
        self.expect["resume"][args["id"]] = "continue"
        self.say("order", "Tỉnh gửi bản tin thông thường: chờ xã quyết định")

    def _accept(self) -> None:
        self._tram("accept", "bt-sot-xuat-huyet")
        self.say("accept", "Xã nhận bản tin, phát ngay")

    def _broker_dies(self) -> None:
        self.stage.broker.kill()
        self.outage = (time.time(), 0.0)
        self.say("link", "Máy chủ MQTT bị tắt đột ngột; chương trình vẫn tiếp tục", up=False)

    def _button(self) -> None:
        self.say("press", "Cán bộ xã bấm nút báo động, không có mạng")
        self.expect["triggers"]["press"] = time.time()
        self.stage.press("khan-cap")

    def _broker_returns(self) -> None:
        self.stage.broker.start()
        self.outage = (self.outage[0] if self.outage else 0.0, time.time())
        self.say("link", "Máy chủ MQTT trở lại; các sự kiện chờ được gửi", up=True)

    def _attacker(self) -> None:
        self.say("attack", "Kẻ lạ có chứng thư của máy chủ gửi lệnh giả", on=True)
        media = msgspec.to_builtins(self.stage.province.media(self.made.attack))
        topic = topics.order(DEVICE)
        send = self.stage.publisher.raw
        for attack, payload in self._attempts(media):
            attack.sha256 = _sha256(payload)
            self.attacks.append(attack)
            send(topic, payload)
        threading.Timer(4.0, lambda: self.say("attack", "Không lệnh giả nào được phát", on=False)).start()

    def _storm(self) -> None:
        items = [{"chime": "siren"}, {"text": STORM, "lang": "vi"}, {"text": STORM_EN, "lang": "en"}]
        args = self._broadcast("bao-so-9", "BÃO SỐ 9 CẤP 12 – SƠ TÁN NGAY", "emergency", items, resume="restart")
        self.say("order", "Tỉnh phát lệnh khẩn cấp: bão số 9")
        self.expect["triggers"]["bao-so-9"] = time.time()
        self._publish("province", args)
        self.expect["heard"].append("bao-so-9")

    def _silence(self) -> None:
        args = {"scope": DEVICE, "on": True, "zones": ["*"], "include_local": True, "until": self._time(3600.0)}
        order = self._sign("province", "silence", args, name="silence")
        self.say("silence", "Tỉnh ra lệnh ngắt toàn bộ", on=True)
        self.stage.publisher.send(order)
        self.expect["silent"].append((time.time() + 1.0, self.t0 + self.seconds))

    # the attacker's attempts

    def _attempts(self, media: dict[str, Any]) -> list[tuple[Attack, bytes]]:
        now = time.time()
        stranger = Signer(generate().to_jwk(), "province")
        evil = self._broadcast("ke-la", "Tin giả", "emergency", [{"media": media}], resume="drop")

        def genuine(**claims: Any) -> str:
            args = {**evil, "id": f"ke-la-{os.urandom(3).hex()}", **claims.pop("args", {})}
            return self._sign(claims.pop("iss", "province"), "broadcast", args, **claims).jws

        valid = genuine()
        head, body, signature = valid.split(".")
        altered = json.loads(base64.urlsafe_b64decode(body + "=="))
        altered["args"]["title"] = "Đã sửa"
        changed = base64.urlsafe_b64encode(json.dumps(altered).encode()).rstrip(b"=").decode()
        old = self._sign("province", "broadcast", {**evil, "id": "cu"}, ttl_s=60, now=now - 4000).jws
        other = self._sign("province", "broadcast", {**evil, "id": "noi-khac"}, aud=["xa-khac"]).jws
        over = self._sign("commune", "broadcast", {**evil, "id": "vuot-quyen"}).jws
        unknown = self._sign("province", "explode", {}).jws
        bulletin = self.orders["bt-sot-xuat-huyet"].jws
        wrong = {**media, "sha256": "0" * 64}
        tampered = self._sign(
            "province", "broadcast", {**evil, "id": "sai-ma", "class": "priority", "items": [{"media": wrong}]}
        ).jws
        forged = stranger.order("broadcast", evil, [DEVICE], now=now, ttl=600, ctr=1)
        list_: list[tuple[Attack, str]] = [
            (Attack("giả chữ ký (khóa lạ)", "unknown-authority", "event"), forged),
            (Attack("sửa nội dung", "bad-signature", "event"), f"{head}.{changed}.{signature}"),
            (Attack("sai dạng", "malformed", "event"), valid + "="),
            (Attack("quá lớn", "too-large", "event"), valid + "A" * 17_000),
            (Attack("hết hạn", "expired", "ack"), old),
            (Attack("gửi sai máy", "not-for-this-device", "ack"), other),
            (Attack("vượt quyền", "not-authorised", "ack"), over),
            (Attack("lệnh lạ", "unknown-op", "ack"), unknown),
            (Attack("phát lại", "repeat", "ack"), bulletin),
            (Attack("sai mã băm", "content-unavailable", "ack"), tampered),
        ]
        for attack, jws in list_:
            if attack.where == "ack":
                attack.jti = _jti(jws)
        return [(attack, jws.encode()) for attack, jws in list_]

    # helpers

    def _broadcast(
        self, bulletin: str, title: str, class_: str, items: list[dict[str, Any]], *, resume: str
    ) -> dict[str, Any]:
        return {
            "id": bulletin,
            "title": title,
            "class": class_,
            "start": "now",
            "zones": ["*"],
            "items": items,
            "resume": resume,
        }

    def _sign(
        self,
        iss: str,
        op: str,
        args: dict[str, Any],
        *,
        name: str | None = None,
        aud: list[str] | None = None,
        **more: Any,
    ) -> Signed:
        order = self.stage.province.sign(iss, op, args, aud or [DEVICE], **more)
        if name is not None:
            self.orders[name] = order
        return order

    def _publish(self, iss: str, args: dict[str, Any]) -> None:
        order = self._sign(iss, "broadcast", args, name=args["id"])
        self.stage.publisher.send(order)

    def _tram(self, *words: str) -> str:
        command = [sys.executable, "-m", "agent", "--lang", "vi", words[0], "--config", str(self.stage.config_path)]
        done = subprocess.run([*command, *words[1:]], capture_output=True, text=True, check=False, timeout=30)
        first = (done.stdout or done.stderr).strip().splitlines()
        self.say("tram", f"tram {words[0]}: {first[0] if first else ''}")
        if done.returncode != 0:
            self.say("fault", f"tram {words[0]} không thành: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout


def verdict(attack: Attack, record: dict[str, Any]) -> str | None:
    """The reason with which the station answered an attempt, as the province's record has it; None: no answer."""
    if attack.where == "event":
        for row in record["events"]:
            body = row["body"]
            if body.get("kind") == "refused" and body.get("sha256") == attack.sha256:
                return str(body["reason"])
        return None
    reasons = [row["body"] for row in record["acks"] if row["body"]["jti"] == attack.jti]
    if attack.expected == "repeat":
        return "repeat" if reasons else None
    return next((str(b["reason"]) for b in reasons if "reason" in b), None)


def hear(say: Say) -> Callable[[Taken], None]:
    """Tell what the province hears from the station."""

    def tell(taken: Taken) -> None:
        body = taken.body or {}
        if not taken.new:
            return
        if taken.leaf == "ack":
            reason = f" ({body['reason']})" if "reason" in body else ""
            say(
                "refused" if body.get("state") == "rejected" else "ack",
                f"{body.get('id', body.get('jti', '')[:8])}: {body.get('state')}{reason}",
            )
        elif taken.leaf == "event" and body.get("kind") == "log":
            entry = body["entry"]
            figure = "" if entry["start_error_ms"] is None else f"{entry['start_error_ms']:+.2f} ms"
            level = "" if entry["level_dbfs"] is None else f" {entry['level_dbfs']:.1f} dBFS"
            say("log", f"{entry['zone']}: {entry['title']} – {entry['result']} {entry['reason'] or ''}", figure + level)
        elif taken.leaf == "event" and body.get("kind") == "refused":
            say("refused", f"{body['reason']} ×{body['count']}")
        elif taken.leaf == "event" and body.get("kind") == "alarm" and body.get("on"):
            say("alarm", f"{body['what']}: {body['detail']}")
        elif taken.leaf == "state":
            say("state", "trạm trực tuyến" if body.get("online") else "trạm ngoại tuyến", f"birth {body.get('birth')}")

    return tell


def _sha256(payload: bytes) -> str:
    import hashlib

    return hashlib.sha256(payload).hexdigest()


def _jti(jws: str) -> str:
    body = jws.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return str(claims["jti"])
