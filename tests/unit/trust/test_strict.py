from __future__ import annotations

import json

import pytest

from agent.trust.strict import MAX_DEPTH, StrictError, from_base64url, load_json, to_base64url


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


REFUSED = {
    "nothing": b"",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "broken UTF-8": b'{"a":"\xff"}',
    "an encoded surrogate": b'{"a":"\xed\xa0\x80"}',
    "an overlong encoding": b'{"a":"\xc0\xaf"}',
    "something after": b"{} {}",
    "a repeated name": b'{"a":1,"a":1}',
    "a repeated name, escaped": b'{"a":1,"\\u0061":2}',
    "a repeated name deep down": b'[{"x":{"b":1,"b":2}}]',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b'{"a":-Infinity}',
    "infinity by overflow": b'{"a":1e999}',
    "2^53": b'{"a":9007199254740992}',
    "-2^53": b'{"a":-9007199254740992}',
    "2^53 as a float": b'{"a":9007199254740992.0}',
    "a number of 5,000 digits": b"1" * 5000,
    "a lone high surrogate": b'{"a":"\\ud800"}',
    "a lone low surrogate": b'{"a":"x\\udc00"}',
    "surrogates the wrong way round": b'{"a":"\\udc00\\ud800"}',
    "a lone surrogate in a name": b'{"\\uD83D":1}',
    "a lone surrogate deep down": b'[[["\\ud800"]]]',
    "33 levels": nested(33),
    "100,000 levels": nested(100_000),
    "100,000 levels, not closed": b"[" * 100_000,
    "33 levels of objects": b'{"a":' * 33 + b"1" + b"}" * 33,
    "a comment": b"{} // x",
    "a trailing comma": b"[1,]",
    "single quotes": b"{'a':1}",
    "a control character": b'"\x01"',
    "a leading plus": b"+1",
    "a leading zero": b"01",
    "hexadecimal": b"0x10",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_json_with_a_second_meaning_is_refused(data: bytes) -> None:
    with pytest.raises(StrictError):
        load_json(data)


ACCEPTED = {
    "32 levels": nested(MAX_DEPTH),
    "2^53 − 1": b'{"a":9007199254740991}',
    "a surrogate pair": b'{"a":"\\ud83d\\ude00"}',
    "an escaped backslash before u": b'{"a":"\\\\ud800"}',
    "Vietnamese": '{"tên":"Đài truyền thanh"}'.encode(),
    "white space": b' \r\n\t{ "a" : [ 1 , -2.5e3 , true , null ] } ',
    "the same name in two objects": b'[{"a":1},{"a":2}]',
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_plain_json_means_what_the_standard_library_reads(data: bytes) -> None:
    assert load_json(data) == json.loads(data)


@pytest.mark.parametrize("text", ["AA==", "AA=", "A", "AB", "AAB", "+/AA", "AA\n", " AA", "AA ", "A A", "é", "AAAA\n"])
def test_base64url_with_a_second_spelling_is_refused(text: str) -> None:
    with pytest.raises(StrictError):
        from_base64url(text)


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xff", b"\xfb\xef\xbe", bytes(range(256))])
def test_base64url_goes_there_and_back(data: bytes) -> None:
    assert from_base64url(to_base64url(data)) == data
