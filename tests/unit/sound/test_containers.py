"""What is read out of media files by our own code: nothing in them may do more than be refused."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sound import flac, mp4, ogg, wav
from agent.sound.sniff import id3_length, sniff


def riff(*chunks: tuple[bytes, bytes], size: int = 0) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", size) + b"WAVE" + body


def fmt(tag: int = 1, channels: int = 1, rate: int = 48_000, bits: int = 16) -> tuple[bytes, bytes]:
    frame = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame % 2**32, frame, bits)


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I", len(data) + 8) + kind + data


def movie(*more: bytes, edit: bytes = b"") -> io.BytesIO:
    mvhd = box(b"mvhd", bytes(12), struct.pack(">II", 1000, 10_000))
    mdhd = box(b"mdhd", bytes(12), struct.pack(">II", 44_100, 441_000))
    return io.BytesIO(
        box(b"ftyp", b"M4A ") + box(b"moov", mvhd, box(b"trak", edit, box(b"mdia", mdhd)), *more) + box(b"mdat", b"x")
    )


def elst(duration: int, start: int, count: int = 1) -> bytes:
    return box(b"edts", box(b"elst", struct.pack(">IIIiI", 0, count, duration, start, 1 << 16)))


def test_our_own_wav_is_known_as_ours_even_behind_other_chunks() -> None:
    form = wav.examine(io.BytesIO(riff((b"LIST", b"odd"), fmt(), (b"data", bytes(200)))))
    assert form.ours
    assert (form.frames, form.offset) == (100, 12 + 12 + 24 + 8)


@pytest.mark.parametrize(
    ("chunk", "why"),
    [
        (fmt(channels=0), "0 channels"),
        (fmt(channels=400), "400 channels"),
        (fmt(rate=0), "at 0 Hz"),
        (fmt(rate=4_000_000_000), "at 4000000000 Hz"),
        ((b"fmt ", b"short"), "without its format"),
    ],
)
def test_a_wav_header_that_lies_is_refused(chunk: tuple[bytes, bytes], why: str) -> None:
    with pytest.raises(wav.WavError, match=why):
        wav.examine(io.BytesIO(riff(chunk, (b"data", bytes(100)))))


def test_a_wav_that_was_cut_off_has_the_frames_that_are_there() -> None:
    whole = riff(fmt(channels=2), (b"data", bytes(4000)))
    assert wav.examine(io.BytesIO(whole[:-1001])).frames == 749


def test_a_wav_from_a_pipe_goes_to_its_end() -> None:
    data = bytearray(riff(fmt(), (b"data", bytes(96))))
    data[40:44] = b"\xff\xff\xff\xff"
    assert wav.examine(io.BytesIO(bytes(data))).frames == 48


def test_compressed_wav_is_left_to_the_decoder() -> None:
    assert not wav.examine(io.BytesIO(riff(fmt(tag=0x11, bits=4), (b"data", bytes(9))))).pcm


def test_an_edit_list_leaves_what_is_no_whole_frame_to_be_cut() -> None:
    assert mp4.examine(movie(edit=elst(10_000, 2112))) == ogg.Trim(64, 441_000, 44_100)


def test_apples_note_is_used_where_there_is_no_edit_list() -> None:
    text = b" 00000000 00000840 000001C4 000000000006BAA8 00000000"
    note = box(
        b"----", box(b"mean", bytes(4), b"com.apple.iTunes"), box(b"name", bytes(4), b"iTunSMPB"), box(b"data", text)
    )
    udta = box(b"udta", box(b"meta", bytes(4), box(b"ilst", note)))
    assert mp4.examine(movie(udta)) == ogg.Trim(2112, 441_000, 44_100)


def test_an_edit_list_of_several_parts_or_with_a_gap_is_not_followed() -> None:
    assert mp4.examine(movie(edit=elst(10_000, 1024, count=2))) is None
    assert mp4.examine(movie(edit=elst(10_000, -1))) is None


def test_boxes_that_are_deeper_or_longer_than_the_file_end_the_search() -> None:
    deep = b""
    for _ in range(5_000):
        deep = box(b"moov", deep)
    assert mp4.examine(io.BytesIO(deep)) is None
    assert mp4.examine(io.BytesIO(b"\xff\xff\xff\xffmoov" + bytes(100))) is None
    assert mp4.examine(io.BytesIO(box(b"free") * 20_000)) is None


def _opus(skip: int = 312, pages: int = 3) -> bytes:
    head = b"OpusHead\1\2" + struct.pack("<HIhB", skip, 48_000, 0, 0)
    out = [ogg.Page(2, 0, 7, bytes([len(head)]), head), ogg.Page(0, 0, 7, b"\x08", b"OpusTags")]
    out += [ogg.Page(0, 960 * 10 * n, 7, b"\x03" * 10, b"\xf8\xff\xfe" * 10) for n in range(1, pages + 1)]
    out[-1] = out[-1]._replace(flags=4)
    return b"".join(ogg.encode(p, n) for n, p in enumerate(out))


def test_opus_is_cut_by_its_pre_skip_and_its_last_granule() -> None:
    assert ogg.examine(io.BytesIO(_opus())) == ogg.Trim(312, 28_800 - 312, 48_000)


def test_the_rewritten_stream_has_all_packets_and_one_more_and_ends_only_there() -> None:
    before = list(ogg.pages(io.BytesIO(_opus())))
    after = list(ogg.pages(io.BytesIO(b"".join(ogg.rewritten(io.BytesIO(_opus()))))))
    assert [p.body for p in after[:-1]] == [p.body for p in before]
    assert [p.flags for p in after] == [2, 0, 0, 0, 0, 4]
    assert [p.granule for p in after[2:5]] == [p.granule + 48_000 for p in before[2:]]


def test_the_checksum_is_that_of_the_standard() -> None:
    page = ogg.encode(ogg.Page(2, 0, 1, b"\x01", b"x"), 0)
    assert ogg._crc(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")
    assert ogg._crc(b"123456789") == 0x89A1897F  # CRC-32 of this polynomial, neither reflected nor inverted


def test_a_second_stream_in_the_file_is_left_out() -> None:
    other = ogg.encode(ogg.Page(2, 0, 8, b"\x01", b"x"), 0)
    assert all(p.serial == 7 for p in ogg.pages(io.BytesIO(b"".join(ogg.rewritten(io.BytesIO(_opus() + other))))))


def test_ogg_of_another_codec_is_refused() -> None:
    page = ogg.encode(ogg.Page(2, 0, 1, b"\x09", b"\x80theora.."), 0)
    with pytest.raises(ogg.CodecError, match="neither Opus nor Vorbis"):
        ogg.examine(io.BytesIO(page))


def test_flac_tells_its_length_and_is_given_more_than_that() -> None:
    info = (
        struct.pack(">HH", 4096, 4096) + bytes(6) + ((44_100 << 44) | (1 << 41) | (15 << 36) | 1000).to_bytes(8, "big")
    )
    data = b"fLaC" + b"\x80\0\0\x22" + info + bytes(16) + b"frames"
    assert flac.examine(io.BytesIO(data)) == ogg.Trim(0, 1000, 44_100)
    assert b"".join(flac.rewritten(io.BytesIO(data))) == data + b"frames"


MP3 = b"\xff\xfb\x90\x00" + bytes(413)
ADTS = b"\xff\xf1\x50\x80\x20\x00\xfc" + bytes(249)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"RIFF\0\0\0\0WAVE", ("wav", 0)),
        (b"fLaC", ("flac", 0)),
        (b"OggS\0", ("ogg", 0)),
        (b"\0\0\0\x20ftypM4A ", ("mp4", 0)),
        (MP3 * 2, ("mpga", 0)),
        (b"\0\xff\xfb\xff" + MP3 * 2, ("mpga", 4)),
        (MP3[100:] + MP3 * 2, ("mpga", 317)),
        (ADTS[50:] + ADTS * 2, ("aac", 206)),
        (MP3, None),
        (b"#EXTM3U\nhttp://example/", None),
        (b"<?xml version", None),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"", None),
    ],
)
def test_a_format_is_known_by_its_bytes_and_a_list_of_addresses_is_none(
    head: bytes, found: tuple[str, int] | None
) -> None:
    assert sniff(head) == found


def test_the_length_of_a_tag_in_front() -> None:
    assert id3_length(b"ID3\4\0\0\0\0\2\1" + bytes(300)) == 267
    assert id3_length(b"ID3\4\0\x10\0\0\2\1" + bytes(300)) == 277
    assert id3_length(MP3) == 0


MARKS = st.sampled_from(
    [b"RIFF", b"WAVE", b"fmt ", b"data", b"moov", b"elst", b"OggS\0", b"fLaC", b"\xff\xfb", b"----", b"mdhd"]
)
ALMOST = st.lists(st.one_of(MARKS, st.binary(max_size=24)), max_size=30).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(ALMOST)
def test_no_bytes_bring_the_readers_down(data: bytes) -> None:
    sniff(data)
    id3_length(data)
    for start in (b"", b"RIFF\0\0\0\0WAVE", b"OggS\0", b"fLaC\0\0\0\x22"):
        file = io.BytesIO(start + data)
        mp4.examine(file)
        flac.examine(file)
        list(ogg.rewritten(file))
        with contextlib.suppress(wav.WavError):
            wav.examine(file)
        with contextlib.suppress(ogg.CodecError):
            ogg.examine(file)
