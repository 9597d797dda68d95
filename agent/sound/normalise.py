"""Vietnamese text as it is spoken: numbers, dates, units, official abbreviations, legal numbers. A pure function.

The speech engine reads letters; a bulletin is full of what is not letters. `spoken` writes it out the way it is read
on the air in the South ("lẻ", "ngàn", "tháng tư"), in steps whose order matters: what has an own meaning as a whole
(an address, a legal number, a telephone number, a date) goes before bare numbers. A step never touches the words of
an earlier one, because those have neither digits nor capitals in a row. tests/unit/sound/normalise_vi.csv shows what
becomes of what.

Where the writing is ambiguous the commoner meaning in official bulletins is taken: "30/4" is a date, "3/4" a
fraction unless the words before say otherwise; "TT." before a name is a market town (thị trấn), in a legal number a
circular (thông tư).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from re import Match

_DIGITS = ("không", "một", "hai", "ba", "bốn", "năm", "sáu", "bảy", "tám", "chín")
_SCALES = ("", " ngàn", " triệu")
_UPPER = "A-Z" + "".join(c for c in map(chr, (*range(0xC0, 0x250), *range(0x1E00, 0x1EFA))) if c.isupper())
_LOWER = "a-z" + "".join(c for c in map(chr, (*range(0xDF, 0x250), *range(0x1E00, 0x1EFA))) if c.islower())
# fmt: off
_LETTERS = {
    "A": "a", "B": "bê", "C": "xê", "D": "dê", "Đ": "đê", "E": "e", "F": "ép",
    "G": "giê", "H": "hát", "I": "i", "J": "gi", "K": "ca", "L": "lờ", "M": "mờ",
    "N": "nờ", "O": "o", "P": "pê", "Q": "quy", "R": "rờ", "S": "sờ", "T": "tê",
    "U": "u", "V": "vê", "W": "vê-kép", "X": "ích", "Y": "y", "Z": "dét",
}
# fmt: on


def integer(n: int) -> str:
    """A number in words: 105 "một trăm lẻ năm", 21 "hai mươi mốt", 2026 "hai ngàn không trăm hai mươi sáu"."""
    if n < 0:
        return "âm " + integer(-n)
    if n >= 10**9:
        head, rest = divmod(n, 10**9)
        return integer(head) + " tỷ" + (" " + _groups(rest, True) if rest else "")
    return _groups(n, False) or "không"


def _groups(n: int, after: bool) -> str:
    """Below a thousand million; `after`: something greater was said before, so nothing is left out in front."""
    words = []
    for scale in (2, 1, 0):
        group = n // 1000**scale % 1000
        if group:
            words.append(_hundreds(group, after) + _SCALES[scale])
        after = after or group > 0
    return " ".join(words)


def _hundreds(n: int, full: bool) -> str:
    hundreds, rest = divmod(n, 100)
    words = [f"{_DIGITS[hundreds]} trăm"] if hundreds or full else []
    tens, ones = divmod(rest, 10)
    if not rest:
        return " ".join(words)
    if not tens:
        return " ".join([*words, "lẻ", _DIGITS[ones]]) if words else _DIGITS[ones]
    words.append("mười" if tens == 1 else f"{_DIGITS[tens]} mươi")
    if ones == 1 and tens > 1:
        words.append("mốt")
    elif ones == 5:
        words.append("lăm")
    elif ones:
        words.append(_DIGITS[ones])
    return " ".join(words)


def digits(text: str) -> str:
    """Digit by digit; whatever is not a digit is left out."""
    return " ".join(_DIGITS[int(c)] for c in text if c.isascii() and c.isdigit())


def number(text: str) -> str:
    """A number as it is written in Vietnamese: dots between thousands, a comma before decimals.

    Without dots, what is longer than eight digits or begins with a zero is a code, said digit by digit.
    """
    grouped = re.fullmatch(r"\d{1,3}(\.\d{3})+(,\d+)?", text)
    text = text.replace(".", "") if grouped else text
    mark = re.search(r"[,.]", text)
    if mark:
        whole, decimals = text[: mark.start()], text[mark.end() :]
        word = "phẩy" if mark[0] == "," else "chấm"
        said = digits(decimals) if len(decimals) > 2 or decimals[0] == "0" else integer(int(decimals))
        return f"{integer(int(whole))} {word} {said}"
    code = not grouped and (len(text) > 8 or (len(text) > 2 and text[0] == "0"))
    return digits(text) if code or len(text) > 18 else integer(int(text))


_NUMBER = r"(?:\d{1,3}(?:\.\d{3})+(?:,\d+)?|\d+[,.]\d+|\d+)(?![\d])"
_DASH = r"\s*[-–—]\s*"

_UNITS = {
    "mm": "mi li mét",
    "cm": "xăng ti mét",
    "dm": "đề xi mét",
    "m": "mét",
    "km": "ki lô mét",
    "m2": "mét vuông",
    "m²": "mét vuông",
    "km2": "ki lô mét vuông",
    "km²": "ki lô mét vuông",
    "m3": "mét khối",
    "m³": "mét khối",
    "ha": "héc ta",
    "kg": "ki lô gam",
    "g": "gam",
    "mg": "mi li gam",
    "l": "lít",
    "ml": "mi li lít",
    "h": "giờ",
    "s": "giây",
    "kW": "ki lô oát",
    "kWh": "ki lô oát giờ",
    "MW": "mê ga oát",
    "kV": "ki lô vôn",
    "V": "vôn",
    "W": "oát",
    "Hz": "héc",
    "kHz": "ki lô héc",
    "MHz": "mê ga héc",
    "GHz": "gi ga héc",
    "GB": "gi ga bai",
    "MB": "mê ga bai",
    "dB": "đề xi ben",
    "hPa": "héc tô pát can",
    "mb": "mi li ba",
    "°C": "độ xê",
    "ºC": "độ xê",
    "oC": "độ xê",
    "°": "độ",
    "%": "phần trăm",
    "‰": "phần ngàn",
    "đ": "đồng",
    "VNĐ": "đồng",
    "VND": "đồng",
    "USD": "đô la Mỹ",
    "tr": "triệu",
    "trđ": "triệu đồng",
    "g/l": "gam trên lít",
    "người": "người",
    "tấn": "tấn",
    "tạ": "tạ",
    "đồng": "đồng",
    "ngày": "ngày",
    "hộ": "hộ",
    "phút": "phút",
    "giây": "giây",
    "giờ": "giờ",
    "lít": "lít",
    "năm": "năm",
    "tháng": "tháng",
    "lần": "lần",
}
_UNIT = "|".join(re.escape(u) for u in sorted(_UNITS, key=len, reverse=True))

_KINDS = {
    "NĐ": "nghị định",
    "QĐ": "quyết định",
    "TT": "thông tư",
    "TTLT": "thông tư liên tịch",
    "NQ": "nghị quyết",
    "CT": "chỉ thị",
    "KH": "kế hoạch",
    "TB": "thông báo",
    "CV": "công văn",
    "BC": "báo cáo",
    "CĐ": "công điện",
    "HD": "hướng dẫn",
    "TTr": "tờ trình",
    "GM": "giấy mời",
    "PL": "pháp lệnh",
    "L": "luật",
}
_BODIES = {
    "CP": "chính phủ",
    "TTg": "thủ tướng chính phủ",
    "UBND": "ủy ban nhân dân",
    "HĐND": "hội đồng nhân dân",
    "UBMTTQ": "ủy ban mặt trận tổ quốc",
    "MTTQ": "mặt trận tổ quốc",
    "TW": "trung ương",
    "TƯ": "trung ương",
    "TU": "tỉnh ủy",
    "HU": "huyện ủy",
    "ĐU": "đảng ủy",
    "CTN": "chủ tịch nước",
    "UBTVQH": "ủy ban thường vụ quốc hội",
    "BTTTT": "bộ thông tin và truyền thông",
    "BNNPTNT": "bộ nông nghiệp và phát triển nông thôn",
    "BTNMT": "bộ tài nguyên và môi trường",
    "BGDĐT": "bộ giáo dục và đào tạo",
    "BYT": "bộ y tế",
    "BCA": "bộ công an",
    "BQP": "bộ quốc phòng",
    "BTC": "bộ tài chính",
    "BNV": "bộ nội vụ",
    "BGTVT": "bộ giao thông vận tải",
    "BVHTTDL": "bộ văn hóa thể thao và du lịch",
    "BCH": "ban chỉ huy",
    "BCĐ": "ban chỉ đạo",
    "PCTT": "phòng chống thiên tai",
    "PCTT&TKCN": "phòng chống thiên tai và tìm kiếm cứu nạn",
    "STTTT": "sở thông tin và truyền thông",
    "VPCP": "văn phòng chính phủ",
    "CA": "công an",
}

_ABBREVIATIONS = {
    **{k: v for k, v in _BODIES.items() if k not in {"CP", "CA", "TU", "HU", "BCH"}},
    "PCTT-TKCN": "phòng chống thiên tai và tìm kiếm cứu nạn",
    "PCCC&CNCH": "phòng cháy chữa cháy và cứu nạn cứu hộ",
    "TP.HCM": "thành phố Hồ Chí Minh",
    "TPHCM": "thành phố Hồ Chí Minh",
    "TP HCM": "thành phố Hồ Chí Minh",
    "UBMTTQVN": "ủy ban mặt trận tổ quốc Việt Nam",
    "BCH": "ban chỉ huy",
    "BTV": "ban thường vụ",
    "BCHTW": "ban chấp hành trung ương",
    "TKCN": "tìm kiếm cứu nạn",
    "CNCH": "cứu nạn cứu hộ",
    "PCCC": "phòng cháy chữa cháy",
    "CSGT": "cảnh sát giao thông",
    "CSKV": "cảnh sát khu vực",
    "CAND": "công an nhân dân",
    "QĐND": "quân đội nhân dân",
    "DQTV": "dân quân tự vệ",
    "NVQS": "nghĩa vụ quân sự",
    "CHQS": "chỉ huy quân sự",
    "BHYT": "bảo hiểm y tế",
    "BHXH": "bảo hiểm xã hội",
    "BHTN": "bảo hiểm thất nghiệp",
    "THPT": "trung học phổ thông",
    "THCS": "trung học cơ sở",
    "GDTX": "giáo dục thường xuyên",
    "GD&ĐT": "giáo dục và đào tạo",
    "GDĐT": "giáo dục và đào tạo",
    "GD-ĐT": "giáo dục và đào tạo",
    "TT&TT": "thông tin và truyền thông",
    "VHTT": "văn hóa thông tin",
    "VH-TT": "văn hóa thông tin",
    "VHTTDL": "văn hóa thể thao và du lịch",
    "TDTT": "thể dục thể thao",
    "NN&PTNT": "nông nghiệp và phát triển nông thôn",
    "NNPTNT": "nông nghiệp và phát triển nông thôn",
    "NN&MT": "nông nghiệp và môi trường",
    "TN&MT": "tài nguyên và môi trường",
    "TNMT": "tài nguyên và môi trường",
    "KHCN": "khoa học công nghệ",
    "KH&CN": "khoa học và công nghệ",
    "KH&ĐT": "kế hoạch và đầu tư",
    "LĐTBXH": "lao động thương binh và xã hội",
    "LĐ-TB&XH": "lao động thương binh và xã hội",
    "GTVT": "giao thông vận tải",
    "ATGT": "an toàn giao thông",
    "TTATGT": "trật tự an toàn giao thông",
    "ANTT": "an ninh trật tự",
    "ANTQ": "an ninh tổ quốc",
    "TTATXH": "trật tự an toàn xã hội",
    "ATTP": "an toàn thực phẩm",
    "VSATTP": "vệ sinh an toàn thực phẩm",
    "VSMT": "vệ sinh môi trường",
    "SXH": "sốt xuất huyết",
    "TCM": "tay chân miệng",
    "TTYT": "trung tâm y tế",
    "TYT": "trạm y tế",
    "BVĐK": "bệnh viện đa khoa",
    "KCB": "khám chữa bệnh",
    "NTM": "nông thôn mới",
    "ĐBSCL": "đồng bằng sông Cửu Long",
    "KT-XH": "kinh tế xã hội",
    "KTXH": "kinh tế xã hội",
    "QP-AN": "quốc phòng an ninh",
    "QPAN": "quốc phòng an ninh",
    "HTX": "hợp tác xã",
    "THT": "tổ hợp tác",
    "CLB": "câu lạc bộ",
    "DTTS": "dân tộc thiểu số",
    "CCB": "cựu chiến binh",
    "LHPN": "liên hiệp phụ nữ",
    "ĐVTN": "đoàn viên thanh niên",
    "TNCS": "thanh niên cộng sản",
    "TNXP": "thanh niên xung phong",
    "CCCD": "căn cước công dân",
    "CMND": "chứng minh nhân dân",
    "CNTT": "công nghệ thông tin",
    "CĐS": "chuyển đổi số",
    "TTHC": "thủ tục hành chính",
    "CCHC": "cải cách hành chính",
    "DVC": "dịch vụ công",
    "NSNN": "ngân sách nhà nước",
    "KCN": "khu công nghiệp",
    "KDC": "khu dân cư",
    "TDP": "tổ dân phố",
    "KV": "khu vực",
    "BQL": "ban quản lý",
    "BTC": "ban tổ chức",
    "VN": "Việt Nam",
    "VNĐ": "đồng",
    "TTXVN": "Thông tấn xã Việt Nam",
    "VTV": "vê tê vê",
    "VOV": "vê ô vê",
    "HIV": "hát i vê",
    "AIDS": "ết",
    "COVID": "cô vít",
    "VNeID": "vê nờ i đi",
    "SĐT": "số điện thoại",
    "STT": "số thứ tự",
    "CSXH": "chính sách xã hội",
    "NHCSXH": "ngân hàng chính sách xã hội",
    "ATNĐ": "áp thấp nhiệt đới",
    "KTTV": "khí tượng thủy văn",
    "XDCB": "xây dựng cơ bản",
    "CBCC": "cán bộ công chức",
    "CBCCVC": "cán bộ công chức viên chức",
    "GCN": "giấy chứng nhận",
    "QSDĐ": "quyền sử dụng đất",
    "ĐKKD": "đăng ký kinh doanh",
    "KH": "kế hoạch",
    "QĐ": "quyết định",
    "NQ": "nghị quyết",
    "NĐ": "nghị định",
    "TW": "trung ương",
}
_FIXED = (
    (r"(?i)\bđ/c\b", "đồng chí"),
    (r"(?i)\bv/v\b", "về việc"),
    (r"(?i)\bk/g\b", "kính gửi"),
    (r"(?i)\bv\.\s?v\.*", "vân vân."),
    (r"(?i)\bVD\s?:", "ví dụ:"),
    (r"\bPGS\.?\s?TS\.?(?=\s)", "phó giáo sư tiến sĩ"),
    (r"\bGS\.?\s?TS\.?(?=\s)", "giáo sư tiến sĩ"),
    (r"\bT[Hh]\.?S\.(?=\s?\w)|\bThS\b", "thạc sĩ"),
    (r"\bTS\.(?=\s?\w)", "tiến sĩ "),
    (rf"\bBS\.?(?=\s?[{_UPPER}])", "bác sĩ "),
    (r"\bTM\.(?=\s)", "thay mặt"),
    (r"\bKT\.(?=\s)", "ký thay"),
    (r"\bSN(?=\s?\d{4}\b)", "sinh năm"),
    (r"\bCOVID-?(\d+)", r"cô vít \1"),
    (r"\bTrường TH(?=\s)", "trường tiểu học"),
    (r"\bTrường MN(?=\s)", "trường mầm non"),
    (r"\bTrường MG(?=\s)", "trường mẫu giáo"),
    (r"\bBCH (?=Đảng|Đoàn|Hội|Công đoàn|Chi)", "ban chấp hành "),
    (r"\bCA (?=xã|phường|tỉnh|huyện|TP|thị|thành)", "công an "),
    (r"\b(?:TP|Tp|tp)\.?\s?HCM\b", "thành phố Hồ Chí Minh"),
    (rf"\b(?:TP|Tp)\.?\s?(?=[{_UPPER}])", "thành phố "),
    (rf"\b(?:TX|Tx)\.?\s?(?=[{_UPPER}][{_LOWER}])", "thị xã "),
    (rf"\b(?:TT|Tt)\.\s?(?=[{_UPPER}])", "thị trấn "),
    (rf"\bQ\.\s?(?=[{_UPPER}]|\d)", "quận "),
    (rf"\bP\.\s?(?=[{_UPPER}]|\d)", "phường "),
    (rf"\bX\.\s?(?=[{_UPPER}])", "xã "),
    (rf"\bH\.\s?(?=[{_UPPER}])", "huyện "),
    (rf"\bĐ\.\s?(?=[{_UPPER}]|\d)", "đường "),
    (r"\bTP\.?(?=\s|$)", "thành phố"),
    (r"\bQL\.?\s?(?=\d)", "quốc lộ "),
    (r"\b(?:ĐT|TL)\.?\s?(?=\d{3}[A-Z]?\b(?![.\s]?\d))", "tỉnh lộ "),
    (r"\bHL\.?\s?(?=\d)", "hương lộ "),
    (r"\bĐH\.?\s?(?=\d)", "đường huyện "),
    (r"\bBĐ\s?(?=\d|I)", "báo động "),
    (r"\b([2-5])G\b", r"\1 giê"),
    (r"\bĐ/C\b", "đồng chí"),
    (r"(?i)\b(?:lý trình\s+)?km\s?(?=\d+\s?\+\s?\d)", "ki lô mét "),
    (r"(?<![\d/])(?<![Nn]gày )24/7(?![\d/])", "hai mươi bốn trên bảy"),
    (r"(?<=\d)\s?'(?!\w)", " phút"),
    (r"\bĐT\s?[:.]?(?=\s?\+?\d)", "điện thoại "),
)
_ROMAN_AFTER = (
    r"báo động|quý|khóa|khoá|chương|mục|phần|thứ|đại hội|thế kỷ|kỳ|hạng|loại|đợt|lần|vòng|tổ|vùng|cấp|quân khu"
    r"|tập|bảng|nhóm"
)
_DAY_BEFORE = (
    r"ngày|mùng|mồng|sáng|trưa|chiều|tối|đêm|hôm|lễ|dịp|quốc khánh|kỷ niệm|mừng|rằm|từ|đến|trước|sau|hết|cuối|đầu|tết"
)


def spoken(text: str) -> str:
    """The text as it is to be read aloud. Never fails; words, sentence ends and line ends stay where they are."""
    lines = unicodedata.normalize("NFC", text).splitlines()
    return "\n".join(said for line in lines if (said := _line(line)))


def _line(line: str) -> str:
    line = " ".join("".join(_cleaned(c) for c in line).split())
    line = re.sub(r"(\S{100})(?=\S)", r"\1 ", line)  # no word is so long; the patterns below would be slow on it
    line = re.sub(r"^\s*(?:[-+*–—]+\s+|[•·●▪]+\s*)", "", line)
    headline = _is_headline(line)
    for step in _STEPS:
        line = step(line)
    line = _abbreviations(line, headline)
    if headline:
        line = line.lower()
    for step in _LAST_STEPS:
        line = step(line)
    return re.sub(r"\s+([,.;:!?])", r"\1", re.sub(r"\s+", " ", line)).strip(" ,;")


def _cleaned(c: str) -> str:
    kind = unicodedata.category(c)
    if kind in {"Cf", "Cc", "Cs", "Co", "Cn"}:
        return " " if c == "\t" else ""
    if kind == "Zs":
        return " "
    return " " if kind == "So" and c not in "°º" else c


def _is_headline(line: str) -> bool:
    letters = [c for c in line if c.isalpha()]
    return len(line.split()) >= 3 and sum(c.isupper() for c in letters) > 0.7 * len(letters)


def _addresses(line: str) -> str:
    def said(match: Match[str]) -> str:
        whole = match[0].rstrip(".,;:")
        text = re.sub(r"^https?://|/$", "", whole)
        for mark, word in (("@", "a còng"), (".", "chấm"), ("/", "xuyệt"), ("-", "gạch ngang"), ("_", "gạch dưới")):
            text = text.replace(mark, f" {word} ")
        text = re.sub(r"\bvn\b", "vê nờ", text)
        text = re.sub(r"\bwww\b", "vê kép vê kép vê kép", text)
        text = re.sub(r"\d+", lambda m: f" {digits(m[0])} ", text)
        return re.sub(r"[?=&#%+~:]", " ", text).lower() + match[0][len(whole) :]

    mail = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    site = r"(?:https?://|www\.)\S+|\b[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*\.(?:vn|com|net|org|gov|edu|info)\b(?:/\S*)?"
    return re.sub(f"{mail}|{site}", said, line)


def _fixed(line: str) -> str:
    for pattern, word in _FIXED:
        line = re.sub(pattern, word, line)
    return line


def _legal(line: str) -> str:
    """Document numbers: the kind is not said twice, the body is ("của chính phủ")."""

    def said(match: Match[str]) -> str:
        before, number_, year, kind, body, term = match.group("before", "n", "year", "kind", "body", "term")
        words = [before or "", digits(number_) if number_[0] == "0" else integer(int(number_))]
        if year:
            words.append(f"năm {integer(int(year))}")
        name = _KINDS.get(kind or "", "")
        if name and not (before or "").lower().startswith(name):
            words[-1] += ","
            words.append(name)
        owner = _body(body or ("" if name else kind or ""))
        if term:
            owner = f"quốc hội khóa {integer(int(term))}"
        if owner:
            words.append(f"của {owner}")
        return " ".join(w for w in words if w)

    kinds = "|".join(sorted(_KINDS, key=len, reverse=True))
    names = "|".join({*_KINDS.values()})
    pattern = (
        rf"(?P<before>(?i:{names})(?:\s+số)?\s*:?\s*)?(?<![\d/])(?P<n>\d{{1,5}})(?:/(?P<year>(?:19|20)\d\d))?"
        rf"(?:[/-](?P<kind>{kinds})(?:[-/](?P<body>[A-ZĐƯ][A-ZĐƯa-z&]*(?:-[A-ZĐƯ]+)?))?|/QH(?P<term>\d+)"
        r")(?![\w])"
    )
    return re.sub(pattern, said, line)


def _body(code: str) -> str:
    if code in _BODIES:
        return _BODIES[code]
    first, _, rest = code.partition("-")
    if rest:
        return " ".join(filter(None, (_body(first), _body(rest))))
    return _spelled(code) if code else ""


def _telephones(line: str) -> str:
    def said(match: Match[str]) -> str:
        groups = re.findall(r"\d+", match[0])
        if match[0][0] != "1" and len("".join(groups)) not in {10, 11}:
            return match[0]
        plus = "cộng " if match[0].startswith("+") else ""
        return plus + ", ".join(map(digits, groups))

    line = re.sub(r"(?<![\w,/.])(?:\+84|\(0\d{1,4}\)|0\d{1,4})(?:[\s.-]?\d{1,4}){2,5}(?![\d/])", said, line)
    line = re.sub(r"(?<![\w,/.])1[89]00(?:[\s.-]?\d{2,6}){1,2}(?![\d,/])", said, line)
    calls = r"(?i:\b(?:gọi|số|tổng đài|cảnh sát|cứu hỏa|cấp cứu|điện thoại|đường dây nóng|báo|hoặc|qua)\s+)"
    help_lines = rf"({calls})(11[1-5])((?:\s*(?:,|/|;|hoặc|và)\s*11[1-5])*)\b(?![.,/]?\d)"
    return re.sub(help_lines, lambda m: m[1] + re.sub(r"11[1-5]", lambda n: digits(n[0]), m[2] + m[3]), line)


def _day_month(day: str, month: str, year: str | None = None) -> str | None:
    if not (1 <= int(day) <= 31 and 1 <= int(month) <= 12):
        return None
    return f"{integer(int(day))} {_month(month)}" + (f" năm {integer(int(year))}" if year else "")


def _month(month: str) -> str:
    return "tháng " + ("tư" if int(month) == 4 else integer(int(month)))


def _houses(line: str) -> str:
    house = r"(?i:(số nhà|nhà số|hẻm|ngõ|số)\s+)(\d+)/(\d{1,3})(?![\d/-])"
    return re.sub(house, lambda m: f"{m[1]} {number(m[2])} xuyệt {number(m[3])}", line)


def _dates(line: str) -> str:
    line = re.sub(r"(?i)\b(quý\s+(?:[IV]+|[1-4]))/(?=\d{4}\b)", r"\1 năm ", line)
    line = re.sub(r"(\d\s?[hHg](?:\s?[0-5]\d)?)/(?=\d{1,2}/\d{1,2})", r"\1 ngày ", line)

    def whole(match: Match[str]) -> str:
        said = _day_month(match["d"], match["m"], match["y"])
        if said is None:
            return match[0]
        if match["d1"]:
            said = f"{integer(int(match['d1']))} đến {said}"
        return f"{match['before'] or 'ngày '}{said}"

    first = r"(?:(?P<d1>\d{1,2})\s*[-–]\s*)?"
    line = re.sub(
        r"(?<![\d/.,-])(?P<before>(?i:ngày|mùng|mồng)\s+)?" + first + r"(?P<d>\d{1,2})(?P<s>[/.-])(?P<m>\d{1,2})(?P=s)"
        r"(?P<y>(?:19|20)\d\d)(?![\d/])",
        whole,
        line,
    )

    def short(match: Match[str]) -> str:
        said = _day_month(match["d"], match["m"])
        if said is None:
            return match[0]
        if match["d1"]:
            said = f"{integer(int(match['d1']))} đến {said}"
        before = match["before"]
        return f"{before}{said}" if re.match(r"(?i)ngày|mùng|mồng|rằm", before) else f"{before}ngày {said}"

    separators = r"(?P<s>[/-])"
    line = re.sub(
        rf"(?P<before>\b(?i:{_DAY_BEFORE})\s+)"
        + first
        + r"(?P<d>\d{1,2})"
        + separators
        + r"(?P<m>\d{1,2})(?![\d/%,.]\d|\d)"
        rf"(?!\s?(?:{_UNIT})(?!\w))",
        short,
        line,
    )

    def plain(match: Match[str]) -> str:
        said = _day_month(match["d"], match["m"])
        later = int(match["d"]) > int(match["m"]) or match["d"][0] == "0" or match["m"][0] == "0"
        return f"ngày {said}" if said and later else match[0]

    line = re.sub(r"(?<![\d/.,-])(?P<d>\d{1,2})/(?P<m>\d{1,2})(?![\d/]|,\d)", plain, line)

    again = r"(tháng (?:mười )?\w+ (?:và|hoặc|,) )(?P<d>\d{1,2})/(?P<m>\d{1,2})(?![\d/]|,\d)"
    line = re.sub(
        again, lambda m: m[1] + (f"ngày {d}" if (d := _day_month(m["d"], m["m"])) else m[0][len(m[1]) :]), line
    )

    def month(match: Match[str]) -> str:
        if not 1 <= int(match["m"]) <= 12:
            return match[0]
        return f"{_month(match['m'])} năm {integer(int(match['y']))}"

    line = re.sub(r"(?<![\d/.,-])(?:(?i:tháng)\s+)?(?P<m>\d{1,2})[/-](?P<y>(?:19|20)\d\d)(?![\d/])", month, line)
    return re.sub(r"(?i)\b(tháng)\s+0?4\b(?![\d./,])", r"\1 tư", line)


def _times(line: str) -> str:
    hour = r"(?:[01]?\d|2[0-4])"
    clock = (
        rf"{hour}\s?[hHg]\s?[0-5]\d(?:\s?(?:phút|ph|p|'))?(?!\w)"
        rf"|{hour}:[0-5]\d(?::[0-5]\d)?(?![\d:])|\d{{1,3}}\s?[hH](?!\w)"
    )

    def one(text: str) -> str:
        parts = [int(p) for p in re.findall(r"\d+", text)]
        names = ("giờ", "phút", "giây")
        return " ".join(f"{integer(v)} {name}" for v, name in zip(parts, names, strict=False) if v or name == "giờ")

    line = re.sub(rf"(?<![\w:.,/])(\d{{1,2}}){_DASH}(?={hour}\s?[hH])", lambda m: f"{integer(int(m[1]))} đến ", line)
    line = re.sub(rf"(?<![\w:,/])({clock})/(?=ngày )", lambda m: f"{one(m[1])} ", line)
    line = re.sub(rf"(?<![\w:,/])({clock}){_DASH}({clock})", lambda m: f"{one(m[1])} đến {one(m[2])}", line)
    return re.sub(rf"(?<![\w:,/])(?:{clock})", lambda m: one(m[0]), line)


def _roman(line: str) -> str:
    def value(text: str) -> int:
        worth = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}[c] for c in text]
        following = [*worth[1:], 0]
        return sum(-v if v < n else v for v, n in zip(worth, following, strict=True))

    def said(match: Match[str]) -> str:
        n = value(match[2])
        if match[1].lower().startswith("thứ"):
            return match[1] + {1: "nhất", 4: "tư"}.get(n, integer(n))
        return match[1] + integer(n)

    shape = r"(?=[IVXLC])(?:X[LC]|L?X{0,3})(?:IX|IV|V?I{0,3})"
    line = re.sub(rf"\b((?i:{_ROMAN_AFTER})\s+)({shape})\b(?!\.\w)", said, line)
    return re.sub(rf"^\s*({shape})(?=[.)/]\s)", lambda m: integer(value(m[1])), line)


def _ordinals(line: str) -> str:
    return re.sub(r"(?i)\b(thứ)\s+([14])\b(?![.,/]?\d)", lambda m: f"{m[1]} {'nhất' if m[2] == '1' else 'tư'}", line)


def _abbreviations(line: str, headline: bool) -> str:
    for code in _CODES:
        if code in line and not (headline and _is_syllable(code)):
            line = re.sub(rf"(?<![\w]){re.escape(code)}(?![\w])", _ABBREVIATIONS[code], line)
    return line


_CODES = sorted(_ABBREVIATIONS, key=len, reverse=True)
_SYLLABLE = re.compile(
    r"(?:ngh|ng|nh|ch|gh|gi|kh|ph|qu|th|tr|[bcdđghklmnprstvx])?[aeiouyăâêôơư]{1,3}(?:ch|ng|nh|[cmnpt])?"
)
_TONES = {ord(c): None for c in "\u0300\u0301\u0303\u0309\u0323"}


def _is_syllable(word: str) -> bool:
    """Whether it could be a Vietnamese word."""
    bare = unicodedata.normalize("NFC", unicodedata.normalize("NFD", word.lower()).translate(_TONES))
    return _SYLLABLE.fullmatch(bare) is not None


def _quantities(line: str) -> str:
    unit = rf"(?:\s?(?P<unit>{_UNIT})(?:\s?/\s?(?P<per>{_UNIT}))?(?!\w))"

    def measured(match: Match[str]) -> str:
        unit_, per = match["unit"], match["per"]
        said = [_sign(match["sign"]), number(match["a"])]
        if match["b"]:
            said += ["đến", number(match["b"])]
        said.append(_UNITS[unit_])
        if per:
            said.append(f"trên {_UNITS[per]}")
        return " ".join(s for s in said if s) + " "

    thousands = r"(?<![\w.,/])(\d{1,3})((?: \d{3})* 000)(?![\w.,/]?\d)"
    line = re.sub(thousands, lambda m: m[0].replace(" ", ".") if m[1][0] != "0" else m[0], line)
    line = re.sub(r"(?<![\w.,])(\d{1,3})m(\d\d|[14-9])(?!\w)", lambda m: f"{number(m[1])} mét {_tenths(m[2])}", line)
    period = r"(?<=\w)/24\s?(?:h|giờ)(?!\w)"
    line = re.sub(period, " trong hai mươi bốn giờ", line)
    times = rf"(?<![\w.,])({_NUMBER})(?:\s?({_UNIT}))?\s?[xX×]\s?(?=\d)"
    line = re.sub(times, lambda m: f"{number(m[1])} {_UNITS.get(m[2] or '', '')} nhân ", line)

    def fraction(match: Match[str]) -> str:
        above, below = int(match[1]), int(match[2])
        word = "phần" if above < below <= 10 else "trên"
        last = "tư" if word == "phần" and below == 4 else integer(below)
        return f"{integer(above)} {word} {last} {_UNITS.get(match['unit'] or '', '')}"

    line = re.sub(rf"(?<![\w.,/])(\d{{1,6}})/(\d{{1,6}})(?:\s?(?P<unit>{_UNIT}))?(?![\w/])", fraction, line)
    line = re.sub(
        rf"(?<![\w.,])(?P<sign>[-−–±])?(?P<a>{_NUMBER})(?:{_DASH}(?P<b>{_NUMBER}))?{unit}",
        measured,
        line,
    )
    return re.sub(
        rf"(?<![\w.,/-])({_NUMBER}){_DASH}({_NUMBER})(?![\w-])",
        lambda m: f"{number(m[1])} đến {number(m[2])}",
        line,
    )


def _tenths(text: str) -> str:
    """What stands behind the metres of a height: 1m7 "bảy", 1m75 "bảy mươi lăm", 1m05 "lẻ năm"."""
    return f"lẻ {integer(int(text))}" if len(text) == 2 and text[0] == "0" else integer(int(text))


def _sign(sign: str | None) -> str:
    return {"±": "cộng trừ", None: ""}.get(sign, "âm")


def _numbers(line: str) -> str:
    line = re.sub(r"(?<![\w.,)])[-−](?=\d)", " âm ", line)
    return re.sub(
        rf"(?<=[^\W\d])(?=\d)|{_NUMBER}(?P<letter>(?=[^\W\d]))?",
        lambda m: " " if not m[0] else number(m[0]) + (" " if m["letter"] is not None else ""),
        line,
    )


_SYMBOLS = {
    "&": " và ",
    "+": " cộng ",
    "=": " bằng ",
    "≥": " lớn hơn hoặc bằng ",
    "≤": " nhỏ hơn hoặc bằng ",
    ">": " trên ",
    "<": " dưới ",
    "%": " phần trăm ",
    "°": " độ ",
    "@": " a còng ",
    "…": ".",
    "/": " ",
    "_": " ",
    "*": " ",
    "#": " ",
    "|": ", ",
    "(": ", ",
    ")": ", ",
    "[": ", ",
    "]": ", ",
    "{": ", ",
    "}": ", ",
    '"': "",
    "“": "",
    "”": "",
    "«": "",
    "»": "",
    "‘": "",
    "’": "",
    "~": " khoảng ",
}


def _symbols(line: str) -> str:
    line = re.sub(r"\.{2,}", ".", line)
    line = re.sub(r"\s+[-–—]\s+", ", ", line)
    line = "".join(_SYMBOLS.get(c, c) for c in line)
    line = re.sub(r"(?<=\w)[-–—](?=\w)", " ", line)
    line = re.sub(r",(?:\s*,)+", ",", line)
    return re.sub(r",\s*([.;:!?])", r"\1", line)


def _spelled(code: str) -> str:
    plain = unicodedata.normalize("NFD", code.upper().replace("Đ", "\0"))
    letters = [("Đ" if c == "\0" else c) for c in plain if c == "\0" or c.isascii()]
    return " ".join(_LETTERS.get(c, "") for c in letters if c in _LETTERS)


def _unknown(line: str) -> str:
    """What is still in capitals: a word is said as a word, anything else letter by letter."""

    def said(match: Match[str]) -> str:
        return match[0].lower() if _is_syllable(match[0]) else _spelled(match[0])

    return re.sub(rf"(?<![^\W_])[{_UPPER}]{{2,}}(?![^\W_])", said, line)


_STEPS: tuple[Callable[[str], str], ...] = (
    _addresses,
    _legal,
    _fixed,
    _houses,
    _dates,
    _telephones,
    _times,
    _roman,
    _ordinals,
)
_LAST_STEPS: tuple[Callable[[str], str], ...] = (_quantities, _numbers, _symbols, _unknown)
