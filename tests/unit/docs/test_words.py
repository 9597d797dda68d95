"""The documents speak of what there is: commands, reasons, operations, keys, messages; and of nothing private."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import msgspec
import pytest

from agent.cli.main import COMMANDS, HIDDEN
from agent.cli.province import COMMANDS as PROVINCE
from agent.model import config
from agent.model.orders import ARGS_OF, ITEM_KINDS, Reason
from agent.sound.chimes import names
from province.demo.stage import ControlSocket
from tests.unit.docs.blocks import DECISIONS, DOCUMENTS, ROOT

CONTRACT = (ROOT / "docs" / "contract.md").read_text("utf-8")
GUIDE = (ROOT / "HUONG-DAN.md").read_text("utf-8")
EVERY = [pytest.param(d, id=str(d.relative_to(ROOT))) for d in [*DOCUMENTS, *DECISIONS]]


@pytest.mark.parametrize("document", EVERY)
def test_commands_that_are_named_exist(document: Path) -> None:
    text = " ".join(document.read_text("utf-8").split())
    for name in re.findall(r"`tram ([a-z]+)", text):
        assert name in COMMANDS, name
    for name in re.findall(r"`tram province ([a-z]+)", text):
        assert name in PROVINCE, name


def test_every_command_is_in_the_contract() -> None:
    text = " ".join(CONTRACT.split())
    for name in [*(c for c in COMMANDS if c not in HIDDEN), *PROVINCE]:
        assert re.search(rf"`(tram )?(province )?{name}`", text), name


def test_the_contract_names_every_reason_operation_item_and_chime() -> None:
    for word in [*(r.value for r in Reason), *ARGS_OF, *names()]:
        assert f"`{word}`" in CONTRACT, word
    for kind in ITEM_KINDS:
        assert f"`{{{kind}" in CONTRACT, kind


def test_the_contract_names_every_argument_of_every_operation() -> None:
    rows = dict(re.findall(r"^\| `(\w+)`(?: \(state\))? \| (.+) \|$", CONTRACT, re.MULTILINE))
    for op in ("broadcast", "schedule", "silence", "configure", "authorities"):
        for field in msgspec.structs.fields(ARGS_OF[op]):
            assert re.search(rf"\b{field.encode_name}\b", rows[op]), f"{op}: {field.encode_name}"


def test_the_contract_names_every_group_of_the_configuration() -> None:
    for field in msgspec.structs.fields(config.Station):
        assert re.search(rf"`{field.encode_name}[`.\[]", CONTRACT), field.encode_name
    for field in msgspec.structs.fields(config.Zone):
        assert field.encode_name in CONTRACT, field.encode_name


def test_keys_that_the_guide_explains_exist() -> None:
    kinds = {"device": config.Device, "rules": config.Rules, "zones[]": config.Zone, "content": config.Content}
    kinds |= {"trust": config.Trust, "mqtt": config.Mqtt, "sources[]": config.Source}
    for path in re.findall(r"`((?:\w+(?:\[\])?\.)+\w+)`", GUIDE):
        *_, group, key = path.split(".")
        if group in kinds:
            assert key in {f.encode_name for f in msgspec.structs.fields(kinds[group])}, path


def test_messages_that_the_guide_quotes_are_those_that_people_see() -> None:
    catalogue = (ROOT / "po" / "vi.po").read_text("utf-8").replace('"\n"', "")
    troubles = GUIDE.partition("## 10.")[2].partition("## 11.")[0]
    quoted = re.findall("“([^”]+)”", troubles)
    assert len(quoted) > 10
    for sentence in quoted:
        assert sentence in catalogue, sentence


def test_the_contract_names_every_verb_of_the_control_socket() -> None:
    source = inspect.getsource(ControlSocket)
    cases = [word for case in re.findall(r"case ((?:\"\w+\"(?: \| )?)+):", source) for word in re.findall(r"\w+", case)]
    assert cases
    for verb in cases:
        assert f"| `{verb}` |" in CONTRACT, verb


@pytest.mark.parametrize("document", EVERY)
def test_nothing_private_is_told(document: Path) -> None:
    text = document.read_text("utf-8")
    assert not re.search(r"/work/|/tmp/|/home/|/root/|localhost:\d", text)


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Not there yet"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
