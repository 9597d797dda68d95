"""`index.html`: the player, the timeline with a moving cursor, the checks, the log, receipts and events of a run.

One page with nothing from elsewhere: it reads only `station.wav` and the pictures beside it, and its content policy
forbids all else. Every text of the run is escaped: titles may come from an attacker.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from province.demo.pictures import CLASS_NAMES, Geometry, local_zone
from province.demo.proof import TITLES, Check
from province.demo.recorded import Run, RunError, body, epoch

RESULTS = {
    "completed": "phát đủ",
    "interrupted": "bị ngắt",
    "skipped": "bỏ qua",
    "failed": "không phát được",
    "declined": "xã từ chối",
}
STATES = {
    "received": "đã nhận",
    "offered": "chờ xã nhận",
    "accepted": "xã đã nhận",
    "running": "đang phát",
    "done": "xong",
    "rejected": "từ chối",
    "failed": "không thành",
}


def write_page(
    run: Run, checks: Sequence[Check], geometry: Geometry, title: str = "Trạm truyền thanh", subtitle: str = ""
) -> Path:
    """Write `index.html` beside the run's files and return its path. `geometry`: of the drawn `timeline.png`."""
    held = sum(check.ok for check in checks)
    style, script = _part("page.css"), _part("page.js")
    contact = "contact.png" if (run.out / "contact.png").exists() else ""
    page = Template(_part("page.html")).substitute(
        title=_e(title),
        subtitle=_e(subtitle or f"{_clock(run, run.station.t0, '%d/%m/%Y %H:%M:%S')}, {run.seconds:.0f} giây"),
        verdict=f"{held}/{len(checks)} phép kiểm đạt",
        verdict_class="ok" if held == len(checks) else "bad",
        width=geometry.width,
        height=geometry.height,
        checks=_checks(checks),
        log=_log(run),
        receipts=_receipts(run),
        events=_events(run),
        board=_board(contact),
        geometry=json.dumps(msgspec.to_builtins(geometry)).replace("<", "\\u003c"),
        style=style,
        style_hash=_digest(style),
        script=script,
        script_hash=_digest(script),
    )
    path = run.out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _checks(checks: Sequence[Check]) -> str:
    rows = []
    for check in checks:
        vi, en = TITLES.get(check.name, (check.name, check.name))
        mark = '<span class="yes">✓ đạt</span>' if check.ok else '<span class="no">✗ không đạt</span>'
        detail = f'{_e(check.vi)}<br><small lang="en">{_e(check.detail)}</small>'
        if check.vi in {"", check.detail}:
            detail = f'<span lang="en">{_e(check.detail)}</span>'
        rows.append(
            [f'<th scope="row">{_e(vi)} <small lang="en">{_e(en)}</small></th>', _td(mark), _td(detail, cls="wide")]
        )
    return _table("Phép kiểm và kết quả", ["Điều phải đúng", "Kết quả", "Đo được"], rows)


def _log(run: Run) -> str:
    rows = [
        [
            _td(str(entry.n), "Số", "n"),
            f'<th scope="row">{_e(entry.title)}</th>',
            _td(f'<span class="tag {_e(entry.class_)}">{_e(CLASS_NAMES.get(entry.class_, entry.class_))}</span>'),
            _td(_e(entry.zone), "Vùng"),
            _td(_when(run, entry.started), "Bắt đầu"),
            _td(_when(run, entry.ended), "Kết thúc"),
            _td(_figure(entry.start_error_ms, 2, "ms"), "Lệch giờ", "n"),
            _td(_figure(entry.level_dbfs, 1, "dBFS"), "Mức âm", "n"),
            _td(_e(" · ".join(filter(None, [RESULTS.get(entry.result, entry.result), entry.reason]))), "Kết quả"),
            _td(_e(" · ".join(filter(None, [entry.iss, entry.by, entry.approved_by]))), "Theo lệnh"),
            _td(f'<span class="hash">{_e(entry.hash[:8])}</span>', "Mã băm"),
        ]
        for entry in run.entries
    ]
    heads = ["Số", "Chương trình", "Loại", "Vùng", "Bắt đầu", "Kết thúc", "Lệch giờ", "Mức âm", "Kết quả", "Theo lệnh"]
    return _table("Nhật ký phát", [*heads, "Mã băm"], rows)


def _receipts(run: Run) -> str:
    titles = {entry.bulletin: entry.title for entry in run.entries}
    rows = []
    for record in run.province["receipts"]:
        receipt, order = body(record), str(record.get("id") or record.get("jti"))
        for device, told in _pairs(receipt.get("devices")):
            if not isinstance(told, dict):
                continue
            states = [f"{_e(STATES.get(state, state))} {_when(run, at)}" for state, at in _pairs(told.get("times"))]
            firsts = [
                f"{_e(zone)} {_when(run, of['first_sample_at'], '%H:%M:%S.%f')}"
                for zone, of in _pairs(told.get("zones"))
                if isinstance(of, dict) and of.get("first_sample_at")
            ]
            rows.append(
                [
                    f'<th scope="row">{_e(titles.get(order, order))}</th>',
                    _td(_e(receipt.get("iss")), "Nơi gửi"),
                    _td(_e(device), "Thiết bị"),
                    _td(" → ".join(states), "Trình tự"),
                    _td("<br>".join(firsts), "Mẫu âm đầu"),
                    _td(_e(told.get("reason")), "Lý do"),
                ]
            )
    return _table("Báo nhận", ["Lệnh", "Nơi gửi", "Thiết bị", "Trình tự", "Mẫu âm đầu", "Lý do"], rows)


def _pairs(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _events(run: Run) -> str:
    rows = [
        [
            _td(_when(run, event.at)),
            f'<th scope="row">{_e(event.text or event.what)}</th>',
            _td(_e(event.figure), cls="n"),
        ]
        for event in sorted(run.happenings, key=lambda h: h.at)
    ]
    return _table("Diễn biến", ["Lúc", "Việc", "Đo được"], rows)


def _board(contact: str) -> str:
    if not contact:
        return ""
    return (
        '<section aria-labelledby="h-board"><h2 id="h-board">Bảng tin <small lang="en">Board</small></h2>'
        f'<figure><img src="{contact}" alt="Các khung hình của bảng tin, kèm giờ"></figure></section>'
    )


def _table(caption: str, heads: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>Không có mục nào.</p>"
    head = "".join(f'<th scope="col">{_e(name)}</th>' for name in heads)
    lines = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<table aria-label="{_e(caption)}"><thead><tr>{head}</tr></thead><tbody>\n{lines}\n</tbody></table>'


def _td(content: str, label: str = "", cls: str = "") -> str:
    named = f' data-label="{_e(label)}"' if label and content else ""
    return f"<td{f' class={cls!r}' if cls else ''}{named}>{content}</td>"


def _when(run: Run, at: object, form: str = "%H:%M:%S") -> str:
    """A time as a button that plays from there; what is no time is shown as it stands."""
    if isinstance(at, str):
        try:
            moment = epoch(at)
        except RunError:
            return _e(at)
    elif isinstance(at, int | float):
        moment = float(at)
    else:
        return ""
    text = _clock(run, moment, form)
    text = text[:-3] if form.endswith("%f") else text
    second = moment - run.station.t0
    if not 0 <= second <= run.seconds:
        return text
    return f'<button type="button" class="at" data-s="{second:.3f}" aria-label="Nghe từ {text}">{text}</button>'


def _clock(run: Run, at: float, form: str) -> str:
    return datetime.fromtimestamp(at, local_zone(run)).strftime(form)


def _figure(value: float | None, places: int, unit: str) -> str:
    return "" if value is None else f"{value:.{places}f} {unit}"


def _e(value: Any) -> str:
    return html.escape("" if value is None else str(value))


def _part(name: str) -> str:
    return (files("province.demo") / name).read_text("utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
