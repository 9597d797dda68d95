"""The proof by sound: what was recorded is compared with what was sent.

`check_run` reads a run's folder and returns its checks. Each listed sound is looked for in the channel of its zone by
cross-correlation with the reference in `sent/`; what was found gives times (to the sample), levels, joins, cuts and
continuations, and what is left after taking it away must be free of clicks and of the attacker's sounds.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785
from msgspec import Struct
from numpy.typing import NDArray

from agent.model.playlog import ZEROS, LogEntry
from agent.store.playlog import Problem, verify
from province.demo.listening import (
    STEP,
    Signal,
    decibel,
    flatten,
    jumps,
    level_dbfs,
    listen,
    locate,
    own_parts,
    spans,
)
from province.demo.recorded import Run, RunError, body, epoch, read_run
from province.demo.tracing import END_S, GUARD_S, JOIN_SAMPLES, Piece, Stretch, is_hash, trace

FOUND_LIVE = 0.6
"""The same for a live stream, which was encoded and decoded on its way."""
FADE_S = 0.03
"""How long a fade may still sound after the logged end."""
TIME_S = 0.005
"""Logged times against the recording."""
DUE_S = 0.002
"""Scheduled start against its due time."""
CUT_OFF = frozenset({"truncated", "head"})
"""Problems of a chain that only its end, as the province knows it, shows."""
LEVEL_DB = 1.0
LOGGED_DB = 0.5
SILENCE_DBFS = -80.0


class Check(Struct, frozen=True):
    """One thing that held or not. `detail` in English; `vi` the same in Vietnamese."""

    name: str
    ok: bool
    detail: str
    vi: str = ""


TITLES: dict[str, tuple[str, str]] = {
    "inputs": ("Hồ sơ lượt chạy đọc được", "The run's files can be read"),
    "programme": ("Đúng chương trình", "The right programme"),
    "times": ("Đúng thời điểm đã ghi", "Where the log says"),
    "due": ("Đúng giờ hẹn", "On its due sample"),
    "joins": ("Chỗ nối liền mạch", "No gap at joins"),
    "level": ("Đúng mức âm lượng", "The right level"),
    "logged-level": ("Mức âm ghi đúng", "The logged level is true"),
    "relay": ("Tiếp âm có tiếng", "The relay sounded"),
    "clicks": ("Không có tiếng lách tách", "No clicks"),
    "resume": ("Phát tiếp đúng chỗ bị ngắt", "Resumed where it was cut"),
    "silence": ("Im lặng khi không được phép", "Silence where nothing is authorised"),
    "nobody-else": ("Không ai khác nói được", "Nobody else spoke"),
    "takeover": ("Khẩn cấp chiếm sóng ngay", "The emergency took over"),
    "log-chain": ("Nhật ký không bị sửa", "The log is unaltered"),
    "log-head": ("Nhật ký không bị cắt", "The log is complete"),
    "events-once": ("Sự kiện về tỉnh đúng một lần", "Every event arrived once"),
    "acks": ("Báo nhận đúng trình tự", "Acks in order"),
    "receipts": ("Báo nhận khớp nhật ký", "Receipts agree with the log"),
    "attacks": ("Lệnh giả bị từ chối đúng lý do", "Forgeries refused, each for its reason"),
    "outage": ("Mất kết nối không mất gì", "Nothing was lost in the outage"),
    "slides": ("Trình chiếu đúng lượt, không tối giữa chừng", "Slides in their turn, never black"),
    "board-alert": ("Bảng tin báo động ngay", "The board shows the alert"),
    "requisition": ("Bảng trưng dụng được trả lại", "The requisitioned board is given back"),
    "verify": ("tram log --verify", "tram log --verify"),
}
"""Names of the checks for people: Vietnamese, English. `check_run` makes all but those of `NOT_FROM_FILES`."""
NOT_FROM_FILES = frozenset({"inputs", "attacks", "outage", "slides", "board-alert", "requisition", "verify"})


def check_run(out: Path) -> list[Check]:
    """All checks over the folder of a run, in a fixed order. A folder that cannot be read is one failed check."""
    try:
        return list(_Proof(read_run(out)).checks())
    except RunError as error:
        return [Check("inputs", ok=False, detail=str(error), vi=str(error))]


def write_summary(out: Path, checks: Iterable[Check]) -> Path:
    """Write `summary.json` and return its path."""
    path = out / "summary.json"
    listed = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
    path.write_text(json.dumps({"checks": listed}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


class _Proof:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.rate = run.station.rate
        self.expected = run.expected
        traced = trace(run)
        self.references = traced.references
        self.channels = traced.channels
        self.stretches = traced.stretches
        self.pieces = [piece for stretch in self.stretches for piece in stretch.pieces]

    def checks(self) -> Iterable[Check]:
        for name in TITLES:
            if name not in NOT_FROM_FILES:
                method: Callable[[], tuple[list[str], str, str]] = getattr(self, "_" + name.replace("-", "_"))
                faults, en, vi = method()
                more = f" (+{len(faults) - 5})" if len(faults) > 5 else ""
                shown = "; ".join(faults[:5]) + more
                yield Check(name, not faults, shown or en, shown or vi)

    # The checks. Each returns its faults, and what to say when there are none (English, Vietnamese).

    def _programme(self) -> tuple[list[str], str, str]:
        faults = [] if self.stretches else ["the log names nothing that sounded"]
        for stretch in self.stretches:
            faults += [f"{_who(stretch.entry)}: {_short(content)} is not heard" for content in stretch.missing]
            last = stretch.pieces[-1] if stretch.pieces else None
            if last and last.cut and stretch.entry.result == "completed" and not stretch.missing:
                reference = self.references.get(last.content)
                lost = (0 if reference is None else len(reference)) - last.position - last.length
                if lost > END_S * self.rate and stretch.entry.bulletin not in self.expected.bounded:
                    faults.append(
                        f"{_who(stretch.entry)}: completed, but its last {lost / self.rate:.2f} s are missing"
                    )
        heard = {stretch.entry.bulletin for stretch in self.stretches}
        faults += [f"{bulletin} never sounded" for bulletin in self.expected.heard if bulletin not in heard]
        worst = min((piece.similarity for piece in self.pieces), default=1.0)
        return (
            faults,
            f"{len(self.stretches)} stretches, {len(self.pieces)} sounds in order, similarity ≥ {worst:.4f}",
            f"{len(self.stretches)} đoạn phát, {len(self.pieces)} âm thanh đúng thứ tự, độ giống ≥ {worst:.4f}",
        )

    def _times(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        worst, errors = 0.0, []
        for stretch in self.stretches:
            entry, first = stretch.entry, stretch.first
            if first is not None:
                off = (first - stretch.begin) / self.rate
                worst = max(worst, abs(off))
                if abs(off) > TIME_S:
                    faults.append(f"{_who(entry)}: sounds {off * 1e3:+.2f} ms from its logged start")
                elif entry.planned is not None and entry.start_error_ms is not None:
                    delay = self.expected.delay_ms.get(entry.zone, 0.0)
                    error = (self.run.wall(first) - epoch(entry.planned)) * 1e3 - delay
                    errors.append(abs(error))
                    if abs(error - entry.start_error_ms) > TIME_S * 1e3:
                        faults.append(
                            f"{_who(entry)}: start error {error:+.2f} ms, the log says {entry.start_error_ms:+.2f} ms"
                        )
            last = stretch.pieces[-1] if stretch.pieces else None
            ends = not stretch.live or (last is not None and stretch.live[-1].at < last.at)
            if last and ends and not last.cut and not stretch.missing and last.content == entry.content[-1]:
                off = (last.at + last.length - stretch.end) / self.rate
                if abs(off) > END_S:
                    faults.append(f"{_who(entry)}: ends {off * 1e3:+.0f} ms from its logged end")
        numbers = f"{worst * 1e3:.2f} ms"
        planned = f"{np.median(errors):.2f} ms / {max(errors):.2f} ms" if errors else "-"
        return (
            faults,
            f"first samples within {numbers} of the log; error against the plan, median / most: {planned}",
            f"mẫu đầu lệch nhật ký không quá {numbers}; sai lệch so với kế hoạch, trung vị / lớn nhất: {planned}",
        )

    def _due(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        worst = 0.0
        for bulletin, due in self.expected.due.items():
            starts = [s for s in self.stretches if s.entry.bulletin == bulletin]
            if not starts:
                faults.append(f"{bulletin} was due and never sounded")
                continue
            opening = {s.entry.zone: s for s in reversed(starts)}
            for zone, stretch in opening.items():
                first = stretch.begin if stretch.first is None else stretch.first
                off = self.run.wall(first) - due - self.expected.delay_ms.get(zone, 0.0) / 1e3
                worst = max(worst, abs(off))
                if abs(off) > DUE_S:
                    faults.append(f"{_who(stretch.entry)}: {off * 1e3:+.2f} ms from its due time")
        count = len(self.expected.due)
        return (
            faults,
            f"{count} scheduled starts, at most {worst * 1e3:.2f} ms off",
            f"{count} lần phát theo lịch, lệch nhiều nhất {worst * 1e3:.2f} ms",
        )

    def _joins(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        joins, worst, bridged = 0, 0, 0
        for stretch in self.stretches:
            for piece in stretch.pieces:
                if piece.slip:
                    what = "more" if piece.slip > 0 else "fewer"
                    faults.append(
                        f"{_who(piece.entry)}: {abs(piece.slip)} samples {what} within {_short(piece.content)}"
                    )
                if piece is stretch.pieces[0]:
                    continue
                joins += 1
                if piece.bridged:
                    bridged += 1
                elif abs(piece.gap) > JOIN_SAMPLES:
                    faults.append(
                        f"{_who(piece.entry)}: {piece.gap / self.rate * 1e3:+.1f} ms before {_short(piece.content)}"
                    )
                else:
                    worst = max(worst, abs(piece.gap))
        return (
            faults,
            f"{joins} joins, at most {worst} samples apart, {bridged} bridged by a chime",
            f"{joins} chỗ nối, hở nhiều nhất {worst} mẫu, {bridged} chỗ có nhạc hiệu chờ",
        )

    def _level(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        worst = 0.0
        for piece in self.pieces:
            stated = self.expected.gain_db.get(piece.entry.zone, 0.0)
            stated += self.expected.volume_db.get(piece.entry.bulletin, 0.0)
            off = piece.gain_db - stated
            worst = max(worst, abs(off))
            if abs(off) > LEVEL_DB:
                faults.append(f"{_who(piece.entry)}: {_short(piece.content)} is {off:+.1f} dB from what it should be")
        return faults, f"within {worst:.2f} dB of the references", f"lệch bản gốc không quá {worst:.2f} dB"

    def _logged_level(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        worst = 0.0
        for stretch in self.stretches:
            level = level_dbfs(self.channels[stretch.entry.zone][max(0, stretch.begin) : max(0, stretch.end)])
            logged = stretch.entry.level_dbfs
            if logged is None or level is None:
                if logged is not level:
                    faults.append(f"{_who(stretch.entry)}: the log says {logged} dBFS, the recording {level}")
                continue
            worst = max(worst, abs(level - logged))
            if abs(level - logged) > LOGGED_DB:
                faults.append(f"{_who(stretch.entry)}: the log says {logged:.2f} dBFS, the recording {level:.2f}")
        return (
            faults,
            f"logged levels within {worst:.2f} dB of the recording",
            f"mức âm trong nhật ký lệch bản ghi không quá {worst:.2f} dB",
        )

    def _relay(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        seconds, likeness = 0.0, []
        for live in (live for stretch in self.stretches for live in stretch.live):
            sound = self.channels[live.entry.zone][max(0, live.at) : live.at + live.length]
            block = self.rate // 2
            loud = [level_dbfs(sound[i : i + block]) is not None for i in range(0, len(sound) - block + 1, block)]
            seconds += len(sound) / self.rate
            if loud and sum(loud) < 0.8 * len(loud):
                faults.append(f"{_who(live.entry)}: only {sum(loud)} of {len(loud)} half seconds sound")
            named = self.references.live.get(live.source)
            known = [named] if named is not None else list(self.references.live.values())
            if live.entry.reason == "fallback":
                known += self.references.all().values()
            span = 2 * self.rate
            middle = sound[max(0, len(sound) // 2 - span // 2) :][:span]
            if known and len(middle) > self.rate // 2 and middle.any():
                best = max(
                    locate(np.tile(r, 2), middle, len(r), len(r) / self.rate, self.rate).similarity for r in known
                )
                likeness.append(best)
                if best < FOUND_LIVE:
                    faults.append(f"{_who(live.entry)}: this is not the relayed programme (similarity {best:.2f})")
        similar = f"{min(likeness):.2f}" if likeness else "-"
        return (
            faults,
            f"{seconds:.1f} s of live sound, similarity to its source {similar}",
            f"{seconds:.1f} s tiếp âm, độ giống nguồn {similar}",
        )

    def _clicks(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        places = 0
        for stretch in self.stretches:
            channel = self.channels[stretch.entry.zone]
            edges = {stretch.begin, stretch.end}
            for piece in stretch.pieces:
                edges |= {piece.at, piece.at + piece.length}
                for at in self._disturbances(piece):
                    faults.append(f"{_who(piece.entry)}: a click at {self._clock(at)}")
            for edge in sorted(edges):
                places += 1
                if jumps(channel, edge, self.rate) and not self._meant(stretch, edge):
                    faults.append(f"{_who(stretch.entry)}: a click at the join at {self._clock(edge)}")
        return faults, f"{places} joins and edges, none clicks", f"{places} chỗ nối và chuyển, không có tiếng lách tách"

    def _disturbances(self, piece: Piece) -> list[int]:
        """Samples within a sound where the recording jumps away from the reference and back."""
        reference = self.references.get(piece.content)
        if reference is None or piece.slip:
            return []
        guard = round(GUARD_S * self.rate)
        over = FADE_S * self.rate
        takes_over = any(
            other.entry.zone == piece.entry.zone and other.entry.n != piece.entry.n and abs(other.end - piece.at) < over
            for other in self.stretches
        )
        # What it took the zone from is still fading out over its first samples.
        skip, drop = (guard if piece.position or takes_over else 0), (guard if piece.cut else 0)
        part = reference[piece.position + skip : piece.position + piece.length - drop]
        start = piece.at + skip
        heard = self.channels[piece.entry.zone][start : start + len(part)]
        steps = np.abs(np.diff(heard - part[: len(heard)] * 10 ** (piece.gain_db / 20)))
        block = self.rate // 200
        count = len(steps) // block
        peaks = steps[: count * block].reshape(count, block).max(axis=1)
        found = []
        for i in np.flatnonzero(peaks > STEP):
            beside = max(
                float(np.median(side)) if len(side) else 0.0
                for side in (peaks[i - 5 if i > 5 else 0 : i], peaks[i + 1 : i + 6])
            )
            if peaks[i] > 8 * beside:
                found.append(start + int(i) * block)
        return found

    def _meant(self, stretch: Stretch, edge: int) -> bool:
        """Whether a jump at the whole beginning or end of a sound is in the reference itself."""
        for piece in stretch.pieces:
            reference = self.references.get(piece.content)
            if reference is None or piece.cut or piece.position or edge not in (piece.at, piece.at + piece.length):
                continue
            silence = np.zeros(self.rate // 20)
            padded = np.concatenate((silence, reference, silence)) * 10 ** (piece.gain_db / 20)
            if jumps(padded, len(silence) + edge - piece.at, self.rate):
                return True
        return False

    def _resume(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        worst, count, restarts = 0.0, 0, 0
        last: dict[tuple[str, str], Stretch] = {}
        for stretch in self.stretches:
            key = (stretch.entry.bulletin, stretch.entry.zone)
            before, last[key] = last.get(key), stretch
            if before is None or before.entry.result != "interrupted" or not before.pieces or not stretch.pieces:
                continue
            cut, back = before.pieces[-1], stretch.pieces[0]
            if before.live and before.live[-1].at > cut.at:
                continue  # a live stream comes back at its live edge
            how = self.expected.resume.get(stretch.entry.bulletin)
            restarted = back.position == 0 and back.content == before.entry.content[0]
            if restarted and how != "continue":
                restarts += 1
                continue
            place = cut.position + cut.length
            reference = self.references.get(cut.content)
            whole = 0 if reference is None else len(reference)
            off = back.position - place if back.content == cut.content else back.position + whole - place
            count += 1
            worst = max(worst, abs(off) / self.rate)
            if abs(off) > END_S * self.rate:
                faults.append(f"{_who(stretch.entry)}: goes on {off / self.rate * 1e3:+.0f} ms from where it was cut")
            elif how == "restart":
                faults.append(f"{_who(stretch.entry)}: goes on where it should begin again")
        return (
            faults,
            f"{count} continued within {worst * 1e3:.2f} ms of the cut, {restarts} begun again",
            f"{count} lần phát tiếp lệch không quá {worst * 1e3:.2f} ms, {restarts} lần phát lại từ đầu",
        )

    def _silence(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        silent_s, loudest = 0.0, -np.inf
        block = self.rate // 100
        for zone, channel in self.channels.items():
            count = len(channel) // block
            power = np.mean(np.square(channel[: count * block].reshape(count, block)), axis=1)
            covered = self._covered(zone, count, block)
            silent_s += float((~covered).sum()) * block / self.rate
            loudest = max(loudest, decibel(float(np.sqrt(power[~covered].max(initial=0.0)))))
            sounding = power > 10 ** (SILENCE_DBFS / 10)
            never = np.zeros(count, dtype=bool)
            for begin, end in self.expected.silent:
                never[self._blocks(begin, end, count, block)] = True
            for why, where in (("nothing is logged", ~covered & sounding), ("silence was ordered", never & sounding)):
                for first, last in spans(where):
                    level = decibel(float(np.sqrt(power[first:last].max())))
                    faults.append(
                        f"{zone}: {level:.0f} dBFS for {(last - first) * block / self.rate:.2f} s at"
                        f" {self._clock(first * block)}, where {why}"
                    )
        worst = "-∞" if loudest == -np.inf else f"{loudest:.0f}"
        return (
            faults,
            f"{silent_s:.1f} s without a programme, at most {worst} dBFS",
            f"{silent_s:.1f} s không có chương trình, cao nhất {worst} dBFS",
        )

    def _covered(self, zone: str, count: int, block: int) -> NDArray[np.bool_]:
        """Blocks of 10 ms in which something may sound.

        By an entry of the log or of the province's record of it, and where such an entry was found: a sound at the
        wrong time or an entry taken from the log is another check's matter.
        """
        covered = np.zeros(count, dtype=bool)
        for entry in self._reported():
            if entry.get("zone") == zone and entry.get("started") and entry.get("ended"):
                covered[self._blocks(epoch(entry["started"]), epoch(entry["ended"]), count, block)] = True
        for piece in self.pieces:
            if piece.entry.zone == zone:
                begin = self.run.wall(piece.at)
                covered[self._blocks(begin, begin + piece.length / self.rate, count, block)] = True
        return covered

    def _blocks(self, begin: float, end: float, count: int, block: int) -> slice:
        first = (self.run.sample(begin)) // block
        last = -(-self.run.sample(end + FADE_S) // block)
        return slice(min(max(0, first), count), min(max(0, last), count))

    def _reported(self) -> list[dict[str, Any]]:
        logged = map(_logged, self.run.province["events"])
        return self.run.log + [entry for entry in logged if entry is not None]

    def _nobody_else(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        forbidden = self.references.forbidden
        allowed = [*self.references.all().values(), *self.references.live.values()]
        own = {name: own_parts(sound, allowed, self.rate) for name, sound in forbidden.items()}
        for name, sound in own.items():
            if not sound.any():
                faults.append(f"{name} is also a sound that may be heard: it proves nothing")
        floor = -np.inf
        for zone, channel in self.channels.items() if forbidden else ():
            rest = self._rest(zone, channel)
            flat = flatten(rest, self.rate)
            for name, sound in own.items():
                if not sound.any():
                    continue
                where, likeness, threshold = listen(flat, flatten(sound, self.rate), self.rate)
                floor = max(floor, decibel(threshold))
                if likeness > threshold:
                    gain = locate(rest, sound, where, 0.001, self.rate).gain_db
                    faults.append(f"{zone}: {name} is heard at {self._clock(where)}, {gain:.0f} dB")
        if not forbidden:
            return faults, "no attacker in this run", "lượt này không có kẻ tấn công"
        # What stands in the log has been taken away before: there the ear is far sharper than under live sound.
        return (
            faults,
            f"{len(forbidden)} sounds of the attacker looked for, none found, down to {-floor:.0f} dB below live sound",
            f"tìm {len(forbidden)} âm thanh của kẻ tấn công, không thấy, kể cả nhỏ hơn tiếng trực tiếp {-floor:.0f} dB",
        )

    def _rest(self, zone: str, channel: Signal) -> Signal:
        """The channel without what was found in it."""
        rest = channel.copy()
        for piece in self.pieces:
            reference = self.references.get(piece.content)
            if piece.entry.zone == zone and reference is not None and not piece.slip:
                part = reference[piece.position : piece.position + piece.length]
                first, last = max(0, piece.at), min(len(rest), piece.at + len(part))
                rest[first:last] -= part[first - piece.at : last - piece.at] * 10 ** (piece.gain_db / 20)
        return rest

    def _takeover(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        received = {
            str(ack["id"]): epoch(str(ack["at"]))
            for ack in map(body, self.run.province["acks"])
            if ack.get("state") == "received" and "id" in ack and "at" in ack
        }
        delays: list[float] = []
        seen: set[tuple[str, str]] = set()
        for stretch in self.stretches:
            entry = stretch.entry
            if entry.class_ != "emergency" or (entry.bulletin, entry.zone) in seen:
                continue
            seen.add((entry.bulletin, entry.zone))
            trigger = self.expected.triggers.get(entry.bulletin, received.get(entry.bulletin))
            if trigger is None and entry.planned is not None:
                trigger = epoch(entry.planned)
            first = stretch.begin if stretch.first is None else stretch.first
            if trigger is None:
                faults.append(f"{_who(entry)}: nothing says when it was ordered")
                continue
            delay = (self.run.wall(first) - trigger) * 1e3 - self.expected.delay_ms.get(entry.zone, 0.0)
            busy = any(
                other.entry.zone == entry.zone and other is not stretch and abs(other.end - first) < self.rate
                for other in self.stretches
            )
            limit = self.expected.takeover_limit_ms
            if not busy:
                limit += self.expected.warm_up_s.get(entry.zone, 0.0) * 1e3
            delays.append(delay)
            if not -TIME_S * 1e3 <= delay <= limit:
                faults.append(f"{_who(entry)}: first sample {delay:.1f} ms after the order, limit {limit:.0f} ms")
        most = f"{max(delays):.1f} ms" if delays else "-"
        return (
            faults,
            f"{len(delays)} emergencies, first sample at most {most} after the order",
            f"{len(delays)} lần khẩn cấp, mẫu đầu chậm nhất {most} sau lệnh",
        )

    def _log_chain(self) -> tuple[list[str], str, str]:
        faults = [problem.detail for problem in self._problems() if problem.what not in CUT_OFF]
        return faults, f"{len(self.run.log)} entries, chain unbroken", f"{len(self.run.log)} mục, chuỗi băm liền mạch"

    def _log_head(self) -> tuple[list[str], str, str]:
        faults = [problem.detail for problem in self._problems() if problem.what in CUT_OFF]
        n, _ = self._known_head()
        return faults, f"the province knows entry {n}, the log has it", f"tỉnh biết đến mục {n}, nhật ký có đủ"

    def _problems(self) -> list[Problem]:
        return verify(self.run.log, self.run.checkpoint, self._known_head())

    def _known_head(self) -> tuple[int, str]:
        """The newest entry that the province has heard of."""
        entries = [entry for entry in map(_logged, self.run.province["events"]) if entry is not None]
        return max(((entry["n"], str(entry.get("hash"))) for entry in entries), default=(0, ZEROS))

    def _events_once(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        seen: set[str] = set()
        numbers: list[int] = []
        events = self.run.province["events"]
        for record in events:
            event = body(record)
            device = str(record.get("device", ""))
            seq = event.get("seq")
            name = f"seq {seq}" if seq is not None else _canonical(event)
            if device + name in seen:
                faults.append(f"{event.get('kind')} {name if seq is not None else ''} arrived twice".replace("  ", " "))
            seen.add(device + name)
            entry = _logged(record)
            if entry is not None:
                numbers.append(entry["n"])
        twice = sorted({n for n in numbers if numbers.count(n) > 1})
        faults += [f"log entry {n} arrived twice" for n in twice if len(faults) == 0]
        lost = sorted(set(range(min(numbers, default=1), max(numbers, default=0) + 1)) - set(numbers))
        faults += [f"log entry {n} never arrived" for n in lost]
        return (
            faults,
            f"{len(events)} events, {len(numbers)} log entries, each once",
            f"{len(events)} sự kiện, {len(numbers)} mục nhật ký, mỗi thứ đúng một lần",
        )

    def _acks(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        orders: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for record in self.run.province["acks"]:
            ack = body(record)
            acks = orders[str(record.get("device", "")), str(ack.get("iss")), str(ack.get("jti"))]
            if ack not in acks:  # the same order again is answered with the same ack again
                acks.append(ack)
        for (_, iss, jti), acks in orders.items():
            faults += [f"{iss} {jti}: {fault}" for fault in _ack_faults(acks)]
        return (
            faults,
            f"{len(orders)} orders, {sum(map(len, orders.values()))} acks in sequence",
            f"{len(orders)} lệnh, {sum(map(len, orders.values()))} báo nhận đúng trình tự",
        )

    def _receipts(self) -> tuple[list[str], str, str]:
        faults: list[str] = []
        worst, count = 0.0, 0
        starts: dict[tuple[str, str], list[int]] = defaultdict(list)
        for stretch in self.stretches:  # the logged start: whether that is true is the matter of `times`
            starts[stretch.entry.bulletin, stretch.entry.zone].append(stretch.begin)
        for ack in map(body, self.run.province["acks"]):
            zones = ack.get("zones")
            for zone, told in (zones if isinstance(zones, dict) else {}).items():
                at = told.get("first_sample_at") if isinstance(told, dict) else None
                if at is None or zone not in self.channels:
                    continue
                count += 1
                off = min(
                    (abs(first - self.run.sample(str(at))) for first in starts[str(ack.get("id")), zone]),
                    default=self.rate * 3600,
                )
                worst = max(worst, off / self.rate)
                if off > TIME_S * self.rate:
                    faults.append(f"{ack.get('id')} in {zone}: the receipt's first sample at {at} is not in the log")
        return (
            faults,
            f"{count} receipts of a first sample, at most {worst * 1e3:.2f} ms off",
            f"{count} báo nhận mẫu đầu, lệch nhiều nhất {worst * 1e3:.2f} ms",
        )

    def _clock(self, sample: int) -> str:
        return f"{sample / self.rate:.3f} s"


NEXT: dict[str | None, frozenset[str]] = {
    None: frozenset({"received", "rejected"}),
    "received": frozenset({"received", "offered", "accepted", "running", "done", "rejected", "failed"}),
    "offered": frozenset({"offered", "accepted", "rejected", "failed"}),
    "accepted": frozenset({"accepted", "running", "rejected", "failed"}),
    "running": frozenset({"running", "done", "failed"}),
    "done": frozenset(),
    "rejected": frozenset(),
    "failed": frozenset(),
}
"""Which ack state may follow which (CONTRACT section 4). The same state again: another zone's news."""


def _ack_faults(acks: list[dict[str, Any]]) -> list[str]:
    seqs = [ack.get("seq") for ack in acks]
    if seqs != list(range(1, len(acks) + 1)):
        return [f"seq {', '.join(map(str, seqs))}"]
    states: list[Any] = [None, *(ack.get("state") for ack in acks)]
    for before, after in itertools.pairwise(states):
        if after not in NEXT.get(before, frozenset()):
            return [f"{after} after {before}" if before else f"begins with {after}"]
    return []


def _logged(record: dict[str, Any]) -> dict[str, Any] | None:
    """The play-log entry that a record of the province carries."""
    entry = body(record).get("entry")
    return entry if isinstance(entry, dict) and isinstance(entry.get("n"), int) else None


def _short(content: str) -> str:
    return content[:8] if is_hash(content) else content


def _who(entry: LogEntry) -> str:
    return f"{entry.n} {entry.bulletin} in {entry.zone}"


def _canonical(value: dict[str, Any]) -> str:
    return rfc8785.dumps(value).decode()
