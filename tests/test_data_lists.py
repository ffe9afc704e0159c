"""Annotation lists as people write them: headings, comments, encodings, and what is ambiguous."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from video_swin_transformer import DataError, cli
from video_swin_transformer.data import Annotations, find_splits, read_annotations
from video_swin_transformer.training.config import DataConfig
from video_swin_transformer.training.data import read_training_data

# Twelve classes: sorted as text, 10 and 11 come before 2.
LABELS = (2, 10, 0, 11, 3, 1, 4, 5, 6, 7, 8, 9)
PLAIN = [(f"v{n}.mp4", label) for n, label in enumerate(LABELS)]


def written(root: Path, text: str | bytes, name: str = "list.txt") -> Path:
    path = root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def labels_of(found: Annotations) -> list[tuple[int, ...]]:
    return [item.labels for item in found.items]


def names_of(found: Annotations) -> list[str]:
    return [Path(item.path).name for item in found.items]


def assert_plain(found: Annotations) -> None:
    """The twelve clips with the labels as written."""
    assert names_of(found) == [name for name, _ in PLAIN]
    assert labels_of(found) == [(label,) for label in LABELS]
    assert found.classes == () and found.num_classes == 12 and not found.refused


# --- headings, comments, blank lines ------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [None, 12])
@pytest.mark.parametrize(
    ("heading", "separator", "delimiter", "name"),
    [
        ("path\tlabel", "\t", None, "l.txt"),
        ("path label", " ", None, "l.txt"),
        ("path,label", ",", None, "l.txt"),
        ("path,label", ",", ",", "l.txt"),
        ("Path, Label", ", ", ",", "l.csv"),
        ('"video_path","label"', ",", None, "l.csv"),
        ("video_path;class_id", ";", None, "l.csv"),
        ("filename|label", "|", "|", "l.txt"),
        ("# path label", " ", None, "l.txt"),
        ("Video Path\tClass", "\t", "\t", "l.tsv"),
        ("file class", "   ", None, "l.txt"),
    ],
)
def test_read_annotations_recognizes_a_heading(
    tmp_path, heading, separator, delimiter, name, num_classes
):
    lines = [heading, *(f"{path}{separator}{label}" for path, label in PLAIN)]
    path = written(tmp_path, "\n".join(lines), name)
    found = read_annotations(path, delimiter=delimiter, num_classes=num_classes)
    assert_plain(found)
    assert any(note.startswith("Line 1 is a heading") for note in found.notes)


def test_a_heading_gives_the_order_of_the_columns(tmp_path):
    pandas = read_annotations(written(tmp_path, ",Unnamed: 0,path,label\n0,0,a.mp4,2\n", "l.csv"))
    assert names_of(pandas) == ["a.mp4"] and labels_of(pandas) == [(2,)]
    text = 'id,label,clip_name,video_path,fps\n0,2,x,"a, b.mp4",25\n1,10,y,c.mp4,30\n'
    found = read_annotations(written(tmp_path, text, "l.csv"))
    assert names_of(found) == ["a, b.mp4", "c.mp4"] and labels_of(found) == [(2,), (10,)]
    spaced = read_annotations(written(tmp_path, "label path\n2 my clip.mp4\n10 b.mp4\n"))
    assert names_of(spaced) == ["my clip.mp4", "b.mp4"] and labels_of(spaced) == [(2,), (10,)]
    named = read_annotations(written(tmp_path, "path label\na b.mp4 riding a bike\nc.mp4 run\n"))
    assert named.classes == ("riding a bike", "run") and names_of(named) == ["a b.mp4", "c.mp4"]


def test_a_heading_of_frame_folders_and_of_several_labels(tmp_path):
    frames = read_annotations(written(tmp_path, "frame_dir num_frames label\na b 40 2\nc 9 10\n"))
    assert frames.format == "frames" and [item.num_frames for item in frames.items] == [40, 9]
    assert names_of(frames) == ["a b", "c"] and labels_of(frames) == [(2,), (10,)]
    many = read_annotations(
        written(tmp_path, 'path,labels\na.mp4,3,17\nb.mp4,2\nc.mp4,\n"d.mp4"\n')
    )
    assert many.format == "multilabel" and labels_of(many) == [(3, 17), (2,), (), ()]
    quoted = read_annotations(written(tmp_path, 'path,label\na.mp4,"[3, 17]"\nb.mp4,2\n'))
    assert quoted.is_multilabel and labels_of(quoted) == [(3, 17), (2,)]


def test_a_row_with_more_cells_than_the_heading_is_rejected_by_line(tmp_path):
    with pytest.raises(DataError, match=r"Line 3 .* has 3 columns, but the heading has 2"):
        read_annotations(written(tmp_path, "path,label\na.mp4,1\nb, c.mp4,2\n"))
    with pytest.raises(DataError, match=r"Line 2 .* has 1 columns, but the heading has 2"):
        read_annotations(written(tmp_path, "path,label\na.mp4\n"))
    for line in ("a.mp4 0 16 1", "a.mp4 0 16 jump", "a.mp4 120 5"):
        with pytest.raises(DataError, match=r"Line 2 .* several numbers"):
            read_annotations(written(tmp_path, f"path label\n{line}\n"))
    with pytest.raises(DataError, match="the columns start_frame, stop_frame; segments"):
        read_annotations(written(tmp_path, "path,start_frame,stop_frame,label\na.mp4,0,16,1\n"))
    with pytest.raises(DataError, match=r"Line 2 .* number of frames is 'x'"):
        read_annotations(written(tmp_path, "path,num_frames,label\na,x,1\n"))


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("path::label\na b.mp4::2\n", "::"),
        ("path label\na b.mp4 2\n", ""),
        ("path label\na b.mp4 2\n", " "),
        ('path, label\n"a b.mp4", "2"\n', None),
        ('label, path\n2, "a b.mp4"\n', ","),
        ("a b.mp4::2\n", "::"),
    ],
)
def test_any_delimiter(tmp_path, text, delimiter):
    found = read_annotations(written(tmp_path, text), delimiter=delimiter)
    assert names_of(found) == ["a b.mp4"] and labels_of(found) == [(2,)]


@pytest.mark.parametrize(
    "text",
    ["a 0 3\n", "a -4 3\n", "path,num_frames,label\na,0,3\n", "path num_frames label\na -1 3\n"],
)
def test_a_number_of_frames_is_at_least_one(tmp_path, text):
    with pytest.raises(DataError, match=r"Line [12] .* number of frames is .*, but must be 1"):
        read_annotations(written(tmp_path, text))


def test_a_column_of_splits_is_selected_and_never_mixed(tmp_path):
    path = written(tmp_path, "path,label,split\na.mp4,2,train\nb.mp4,10,test\n", "l.csv")
    assert find_splits(path) == ["train", "test"]
    with pytest.raises(DataError, match=r"splits train, test; select one with --split"):
        read_annotations(path)
    assert names_of(read_annotations(path, split="test")) == ["b.mp4"]


@pytest.mark.parametrize(
    "extra",
    [
        "# made by hand\n",
        "#made by hand, with 3 labels\n",
        "# v0.mp4 2\n",
        "\n  \n\t\n",
        "   # indented\n",
        "# videos\n",
        "# the path and the label of each clip\n",
        "\x0c\n",
    ],
)
@pytest.mark.parametrize("at", [0, 5, 12])
def test_comments_and_blank_lines_are_skipped(tmp_path, extra, at):
    lines = [f"{path} {label}\n" for path, label in PLAIN]
    text = "".join([*lines[:at], extra, *lines[at:]])
    found = read_annotations(written(tmp_path, text), num_classes=12)
    assert_plain(found)
    assert bool(found.notes) == ("#" in extra)


def test_a_name_that_begins_with_a_hash_can_be_listed(tmp_path):
    found = read_annotations(written(tmp_path, './#1.mp4 2\n"#2.mp4" 1\n'))
    assert names_of(found) == ["#1.mp4", "#2.mp4"]


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "format_label",
    [
        "{}.0".format,
        "{}.".format,
        "{}.000".format,
        "{:.18e}".format,  # np.savetxt
        "+{}".format,
        "{:03d}".format,
        '"{}"'.format,
        "'{}'".format,
        "[{}]".format,
        "{},".format,  # an empty column
        "{}  # good".format,
    ],
)
@pytest.mark.parametrize("separator", [" ", "\t", ",", ", "])
def test_numbers_written_otherwise_are_the_same_classes(tmp_path, format_label, separator):
    lines = [f"{path}{separator}{format_label(label)}" for path, label in PLAIN]
    assert_plain(read_annotations(written(tmp_path, "\n".join(lines)), num_classes=12))


def test_minus_one_is_unknown_also_as_a_float(tmp_path):
    found = read_annotations(written(tmp_path, "a.mp4 -1.0\nb.mp4 2.0\n"))
    assert labels_of(found) == [(), (2,)]


@pytest.mark.parametrize("label", ["?", "unknown", "nan", "2x", "NA", "1.5", "3-4"])
@pytest.mark.parametrize("at", [0, 6, 11])
def test_a_word_among_numbers_is_rejected_by_line(tmp_path, label, at):
    lines = [f"{path} {number}" for path, number in PLAIN]
    lines[at] = f"v{at}.mp4 {label}"
    path = written(tmp_path, "\n".join(lines))
    for num_classes in (None, 12):
        with pytest.raises(DataError, match=f"Line {at + 1} of .* has the label '{label[0]}"):
            read_annotations(path, num_classes=num_classes)


def test_a_number_among_names_is_rejected_by_line_unless_it_is_a_name(tmp_path):
    path = written(tmp_path, "a.mp4 walk\nb.mp4 7\nc.mp4 run\n")
    with pytest.raises(DataError, match=r"Line 2 .* label '7', but most labels .* are names"):
        read_annotations(path)
    found = read_annotations(path, labels=["run", "7", "walk"])
    assert labels_of(found) == [(2,), (1,), (0,)]


def test_an_unknown_heading_is_not_a_clip(tmp_path):
    with pytest.raises(DataError, match=r"Line 1 .* the path 'Datei', .* If it is a heading"):
        read_annotations(written(tmp_path, "Datei\tKlasse\na.mp4\t2\nb.mp4\t10\n"))
    with pytest.raises(DataError, match="not a video, unlike all others"):
        read_annotations(written(tmp_path, "Datei\tKlasse\na.mp4\twalk\nb.mp4\trun\n"))


def test_fractions_are_not_classes(tmp_path):
    with pytest.raises(DataError, match=r"Line 1 .* '0\.25', but class indices are integers"):
        read_annotations(written(tmp_path, "a.mp4 0.25\nb.mp4 0.75\n"))


# --- num_classes holds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a.mp4 1\nb.mp4 12\n", "line 2"),
        ("path,label\na.mp4,1\nb.mp4,12.0\n", "line 3"),
        ("# comment\n\nb.mp4 12\n", "line 3"),
        ("f 10 1\ng 10 12\n", "line 2"),
        ("a.mp4 1 2\nb.mp4 3\nc.mp4 4 12\n", "line 3"),
        ('[{"path": "a.mp4", "label": 1}, {"path": "b.mp4", "label": 12}]', "object 1"),
        ('{"path": "a.mp4", "label": 1}\n{"path": "b.mp4", "label": 12}\n', "object 1"),
    ],
)
def test_num_classes_holds_by_line(tmp_path, text, place):
    found = read_annotations(written(tmp_path, text), num_classes=11)
    (refusal,) = found.refused
    assert refusal.place == place and refusal.reason == "label is 12, but must be 0 to 10"
    with pytest.raises(DataError, match=rf"\({place}\): label is 12"):
        found.require_valid()


@pytest.mark.parametrize("num_classes", [1, 3, 400])
def test_num_classes_holds_for_names(tmp_path, num_classes):
    path = written(tmp_path, "a.mp4 walk\nb.mp4 run\n")
    with pytest.raises(DataError, match=f"2 class names, but num_classes is {num_classes}"):
        read_annotations(path, num_classes=num_classes)
    with pytest.raises(DataError, match=f"2 class names, but num_classes is {num_classes}"):
        read_annotations(path, labels=["run", "walk"], num_classes=num_classes)
    assert read_annotations(path, num_classes=2).classes == ("run", "walk")


# --- segments, frame counts or several labels -----------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "{} 0 16 1",
        "{},0,16,1",
        "{}, 0, 16, 1",
        "{} ; 0 ; 16 ; 1",
        "{},0,16,1,",
        "{}\t0\t16\t1",
        "{} 0.0 3.5 1",
        "{} 00:00:01 00:00:04 1",
        "{} 120 5",
        "{},120,5",
        "{} 0 16 1 25",
        "folder {} 0 16 1",
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "clip.qt", "folder"])
def test_numbers_with_two_meanings_are_rejected_with_both(tmp_path, line, name):
    if name == "folder":
        line = f"{line} 7"  # of a folder, two numbers are a count and a label
    path = written(tmp_path, "\n".join(line.format(name) for _ in range(3)))
    with pytest.raises(DataError, match=r"may be .* labels of one clip .* or ") as caught:
        read_annotations(path)
    assert "--format" in str(caught.value) and "line 1" in str(caught.value)


@pytest.mark.parametrize("line", ["{} 0 16 jump", "{},0,16,jump", "{} 1.5 3.0 two words"])
def test_a_span_before_a_name_is_rejected(tmp_path, line):
    path = written(tmp_path, "\n".join(line.format(f"{n}.mp4") for n in range(3)))
    with pytest.raises(DataError, match="look like a start and an end"):
        read_annotations(path)


def test_a_frame_count_before_a_name_is_rejected_but_not_a_name_with_a_number(tmp_path):
    with pytest.raises(DataError, match="look like the frames of the clip"):
        read_annotations(written(tmp_path, "a.mp4 120 jump\nb.mp4 98 jump\n"))
    found = read_annotations(written(tmp_path, "a.mp4 100 m\nb.mp4 200 m\n" * 2))
    assert found.classes == ("100 m", "200 m")


def test_the_format_says_what_several_numbers_are(tmp_path):
    path = written(tmp_path, "a.mp4 0 16 1\nb.mp4 16 32 1\n")
    many = read_annotations(path, format="multilabel")
    assert many.is_multilabel and labels_of(many) == [(0, 1, 16), (1, 16, 32)]
    with pytest.raises(DataError, match=r"Line 1 .* several numbers after the path"):
        read_annotations(path, format="list")
    counted = written(tmp_path, "a.mp4 120 5\nb.mp4 98 2\n")
    frames = read_annotations(counted, format="frames")
    assert labels_of(frames) == [(5,), (2,)] and frames.items[0].num_frames == 120


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mp4 3 1 7\nb.mp4 0\n", [(1, 3, 7), (0,)]),  # of different lengths: not columns
        ("a.mp4 3,17,40\nb.mp4 1,2,3\n", [(3, 17, 40), (1, 2, 3)]),  # one field
        ("a.mp4\t3,17\nb.mp4\t1,2\n", [(3, 17), (1, 2)]),
        ("a.mp4,3 17\nb.mp4,1 2\n", [(3, 17), (1, 2)]),
        ("a.mp4 3, 17\nb.mp4 1, 2\n", [(3, 17), (1, 2)]),
        ("a.mp4 3;17\nb.mp4 2;4\n", [(3, 17), (2, 4)]),
        ("path labels\na.mp4 0 16 1\nb.mp4 2 4 6\n", [(0, 1, 16), (2, 4, 6)]),
        ("a.mp4 3.0 1.0\nb.mp4 0.0\n", [(1, 3), (0,)]),
    ],
)
def test_genuine_lists_of_several_labels_are_read(tmp_path, text, expected):
    found = read_annotations(written(tmp_path, text))
    assert found.is_multilabel and labels_of(found) == expected


# --- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["path", "video_path", "video", "filename", "file_name", "Video"])
@pytest.mark.parametrize("label_key", ["label", "class_id", "labels"])
@pytest.mark.parametrize("name", ["l.jsonl", "l.ndjson", "l.txt", "l.json"])
def test_json_lines(tmp_path, key, label_key, name):
    rows = [json.dumps({"id": 1, key: path, label_key: label}) for path, label in PLAIN]
    assert_plain(read_annotations(written(tmp_path, "\n".join(rows) + "\n", name), num_classes=12))


@pytest.mark.parametrize(
    "data",
    [
        [{"path": path, "label": label} for path, label in PLAIN],
        [{"video": path, "label": float(label)} for path, label in PLAIN],
        [{"video_path": path, "label": [label]} for path, label in PLAIN],
        {"metainfo": {}, "data_list": [{"filename": p, "label": n} for p, n in PLAIN]},
        {"annotations": [{"file_name": p, "category_id": n} for p, n in PLAIN]},
        dict(PLAIN),
        {path: [label] for path, label in PLAIN},
    ],
)
def test_json_objects(tmp_path, data):
    assert_plain(read_annotations(written(tmp_path, json.dumps(data), "l.json"), num_classes=12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a.mp4", "label": 1}\n{"path": "b.mp4"\n', "Line 2 .* is not JSON"),
        ('{"path": "a.mp4", "label": 1}\n[1]\n', "Line 2 .* must be an object"),
        ('{"path": "a.mp4", "label": 1, "start_frame": 0, "end_frame": 2}\n', "need start and end"),
        ('{"path": "a.mp4", "label": 1, "start": 0}\n', "keys start; segments"),
        ('{"path": "a.mp4", "label": 1, "segment": [1]}\n', "must be .start, end. in seconds"),
        ('{"path": "a.mp4", "label": 1, "start": -1, "end": 2}\n', "-1 is not a time"),
        ('{"path": "a.mp4", "label": "?"}\n{"path": "b.mp4", "label": 2}\n', "Object 0 .* '\\?'"),
        ('{"database": {"a": {"duration": 3}}, "version": "1.3"}', "contains no clips"),
        ('{"title": "a.mp4", "label": 1}\n', "keys label, title"),
        ('{"path": "a.mp4", "label": {"x": 1}}\n', "label of object 0"),
        ('{"path": "a.mp4", "label": [0, 0, 1, 0]}\n', "one number per class"),
        ('{"path": "a.mp4"}\n', "have no label"),
        ('{"label": 2}\n', "keys label"),
    ],
)
def test_json_that_is_rejected(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_annotations(written(tmp_path, text, "l.jsonl"))


def test_json_keeps_the_split_and_the_number_of_frames(tmp_path):
    rows = [
        {"frame_dir": "a", "total_frames": 40, "label": 2, "split": "train"},
        {"frame_dir": "b", "total_frames": 9, "label": 10, "split": "val"},
    ]
    path = written(tmp_path, "\n".join(map(json.dumps, rows)), "l.jsonl")
    unknown = '{"filename": "a.mp4", "total_frames": -1, "label": 1}'
    assert read_annotations(written(tmp_path, unknown, "u.json")).items[0].num_frames is None
    assert find_splits(path) == ["train", "val"]
    (item,) = read_annotations(path, split="val").items
    assert (Path(item.path).name, item.labels, item.num_frames) == ("b", (10,), 9)


# --- encodings and separators of paths ----------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, newline):
    (tmp_path / "caf\u00e9.mp4").touch()
    lines = ["caf\u00e9.mp4 2", "b\u00fcro \u20ac.mp4 10", "c.mp4 0"]
    data = newline.join(lines).encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    found = read_annotations(written(tmp_path, data))
    assert names_of(found) == ["caf\u00e9.mp4", "b\u00fcro \u20ac.mp4", "c.mp4"]
    assert labels_of(found) == [(2,), (10,), (0,)]
    assert any("not UTF-8" in note for note in found.notes) == (encoding == "cp1252")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
@pytest.mark.parametrize("listed", [b"caf\xe9.mp4", b"caf\\xe9.mp4", b'"caf\xe9.mp4"'])
def test_a_latin_1_list_finds_names_in_latin_1(tmp_path, listed):
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / name).touch()
    found = read_annotations(written(tmp_path, listed + b" 2\n\xc3\xbcber.mp4 3\n"))
    assert names_of(found) == [name, "\u00fcber.mp4"]


def test_utf_16_without_a_mark_and_binary_files_are_rejected(tmp_path):
    for data in ("a.mp4 1\n".encode("utf-16-le"), b"\0\0\0\x18ftypmp42", b"a.mp4 1\n\0"):
        with pytest.raises(DataError, match="NUL bytes"):
            read_annotations(written(tmp_path, data))


def test_separators_of_windows_and_normal_forms(tmp_path):
    (tmp_path / "Archery" / "in").mkdir(parents=True)
    (tmp_path / "Archery" / "in" / "a b.mp4").touch()
    (tmp_path / "caf\u00e9.mp4").touch()  # composed
    found = read_annotations(written(tmp_path, "Archery\\in\\a b.mp4 2\ncafe\u0301.mp4 10\n"))
    assert all(Path(item.path).exists() for item in found.items)
    assert labels_of(found) == [(2,), (10,)]


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
def test_frame_folders_and_labels_with_spaces_need_no_delimiter(tmp_path, separator):
    text = f"frames/clip 1{separator}2\nframes/clip2{separator}10\n"
    found = read_annotations(written(tmp_path, text))
    assert names_of(found) == ["clip 1", "clip2"] and labels_of(found) == [(2,), (10,)]
    counted = f"a b{separator}40{separator}2\nc{separator}9{separator}10\n"
    frames = read_annotations(written(tmp_path, counted))
    assert frames.format == "frames" and names_of(frames) == ["a b", "c"]
    assert [item.num_frames for item in frames.items] == [40, 9]


WORDS = """a.mp4 b.avi dir path label labels num_frames start walk 3 2.0 -1 1e400 00:01"""
PIECES = st.sampled_from(
    [*WORDS.split(), "c d.mkv", "\r\n", *'?#\n\n  \t,;|"{}[]:\u00e9\\\0\ufeff/']
)


@given(
    st.lists(PIECES, max_size=30).map("".join),
    st.sampled_from([None, "list", "frames", "multilabel", "json", "sthv2", "kinetics"]),
    st.sampled_from([None, ",", "\t", "", "::"]),
    st.sampled_from(["utf-8", "cp1252", "utf-16"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_read_or_rejected(tmp_path, text, format, delimiter, encoding):
    path = written(tmp_path, text.encode(encoding, "replace"))
    try:
        found = read_annotations(path, format=format, delimiter=delimiter, num_classes=4)
    except DataError:
        return
    assert all(0 <= label < 4 for item in found.items for label in item.labels)
    assert all(item.num_frames is None or item.num_frames > 0 for item in found.items)


def test_splits_with_names_and_with_numbers_are_not_compared(tmp_path, capsys):
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.mp4").touch()
    numbers = written(tmp_path, "a.mp4 1\nb.mp4 0\n", "train.txt")
    names = written(tmp_path, "c.mp4 walk\nd.mp4 run\n", "val.txt")
    config = DataConfig(train=str(numbers), val=str(names))
    with pytest.raises(DataError, match=r"val\.txt' are names and .*train\.txt' are class"):
        read_training_data(config, 0)
    assert cli.run(["check-data", str(numbers), "--val", str(names)]) == 1
    assert "give the label map with labels (--labels)" in capsys.readouterr().err


def test_check_data_names_the_line_of_a_bad_label(tmp_path, capsys):
    path = written(tmp_path, "a.mp4 1\nb.mp4 ?\nc.mp4 2\n")
    assert cli.run(["check-data", str(path)]) == 1
    assert "Line 2 of" in capsys.readouterr().err
