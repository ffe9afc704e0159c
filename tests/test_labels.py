"""Label files of every kind, and the label sets of the published weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from video_swin_transformer.errors import DataError, UnknownNameError
from video_swin_transformer.labels import (
    LABEL_SETS,
    find_label_set,
    read_labels,
    shipped_labels,
)

THREE = ("Closing [something]", "Opening, slowly", "Zoë")


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.txt", "Closing [something]\nOpening, slowly\r\n Zoë \n\n\n"),
        ("list.json", json.dumps(THREE)),
        ("sthv2.json", json.dumps({THREE[1]: "1", THREE[2]: "2", THREE[0]: "0"})),
        ("numbers.json", json.dumps({THREE[1]: 1, THREE[2]: 2, THREE[0]: 0})),
        ("config.json", json.dumps({"id2label": {"1": THREE[1], "0": THREE[0], "2": THREE[2]}})),
        ("kinetics.csv", 'id,name\n2,Zoë\n0,Closing [something]\n1,"Opening, slowly"\n'),
        ("other.csv", '"Label" , index\nZoë,2\nClosing [something],0\n"Opening, slowly",1\n'),
        ("semicolons.csv", "name;id\nZoë;2\nClosing [something];0\nOpening, slowly;1\n"),
        ("tabs.CSV", "class_id\tclass_name\n0\tClosing [something]\n1\tOpening, slowly\n2\tZoë\n"),
        ("bare.csv", '0,Closing [something]\n1,"Opening, slowly"\n2,Zoë\n'),
        ("names.csv", 'class\nClosing [something]\n"Opening, slowly"\nZoë\n'),
        ("single.csv", 'Closing [something]\n"Opening, slowly"\n\nZoë\n'),
    ],
)
def test_every_kind_of_file(write, name, text, encoding):
    assert read_labels(write(name, text, encoding), 3) == THREE


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "one\ntwo\n", "has 2 lines, but the model has 3 classes"),
        ("a.txt", "", "has 0 lines"),
        ("a.json", '["one"]', "has 1 labels, but the model has 3 classes"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.json", "3", "not a JSON label map"),
        ("a.json", '{"a": [1]}', "not a JSON label map"),
        ("a.json", '{"a": "0", "b": "0", "c": "1"}', "assigns the id 0 twice, to 'a' and to 'b'"),
        ("a.json", '{"a": "1", "b": "2", "c": "3"}', "ids .* run from 1 to 3, but must run from 0"),
        ("a.json", '{"a": "first", "b": "1"}', "assigns 'a' the id 'first'"),
        ("a.csv", "", "has 0 labels"),
        ("a.csv", "id,video\n0,x\n", "has columns id, video; one must be named name or label"),
        ("a.csv", "id,name\n0,a\n1\n", "Row 2 .* has 1 columns, but must have 2"),
        ("a.csv", "id,name\n0,a\n2,b\n1,c\n5,d\n", "run from 0 to 5, but must run from 0 to 3"),
        ("a.csv", "id,name\n-1,a\n", "the id '-1'"),
    ],
)
def test_what_is_wrong_is_said(write, name, text, says):
    with pytest.raises(DataError, match=says) as caught:
        read_labels(write(name, text), 3)
    assert name in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(DataError, match="Cannot read"):
        read_labels(tmp_path / "absent.txt", 3)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="Cannot read"):
        read_labels(tmp_path / "binary.txt", 3)


def test_the_labels_that_ship_are_those_of_torchvision():
    video = pytest.importorskip("torchvision.models.video")
    labels = shipped_labels("kinetics400")
    assert list(labels) == video.Swin3D_T_Weights.KINETICS400_V1.meta["categories"]
    assert len(set(labels)) == 400
    assert shipped_labels("kinetics600") == ()


def test_label_sets():
    assert {name: labels.num_classes for name, labels in LABEL_SETS.items()} == {
        "kinetics400": 400,
        "kinetics600": 600,
        "kinetics700": 700,
        "kinetics710": 710,
        "sthv2": 174,
    }
    with pytest.raises(UnknownNameError, match="Did you mean 'sthv2'"):
        find_label_set("ssthv2")
