"""Annotations of every kind -> one list of clips. Paths are looked up, videos are not opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from video_swin_transformer import DataError, UnknownNameError
from video_swin_transformer.data import (
    Annotations,
    ClipRecord,
    find_splits,
    hold_out,
    label_map,
    read_annotations,
    require_disjoint,
)


def touch(root: Path, *names: str) -> None:
    """Files in the place of videos: these tests open none."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listed(root: Path, text: str, name: str = "list.txt") -> Path:
    path = root / name
    path.write_bytes(text.encode("utf-8"))
    return path


def brief(annotations: Annotations, root: Path) -> list[tuple[str, tuple[int, ...]]]:
    """(path below the root, labels) of every clip."""
    return [
        (Path(item.path).relative_to(root).as_posix(), item.labels) for item in annotations.items
    ]


# --- text lists -------------------------------------------------------------------------------


def test_a_list_of_paths_with_blanks_is_split_from_the_right(tmp_path):
    text = "\ufeffa b/my clip.mp4 3\r\nplain.avi 0\r\n\r\n  two  blanks .mkv\t12 \n"
    found = read_annotations(listed(tmp_path, text))
    assert found.format == "list" and found.classes == () and found.num_classes == 13
    assert brief(found, tmp_path) == [
        ("a b/my clip.mp4", (3,)),
        ("plain.avi", (0,)),
        ("two  blanks .mkv", (12,)),
    ]


@pytest.mark.parametrize(
    ("delimiter", "line", "path", "label"),
    [
        (",", "a, b.mp4,2", "a, b.mp4", 2),
        (",", '"a, b.mp4",2', "a, b.mp4", 2),
        (";", "a;b.mp4;2", "a;b.mp4", 2),
        ("\t", "a b.mp4\t2", "a b.mp4", 2),
        (None, "a,b.mp4,2", "a,b.mp4", 2),  # after the suffix of a video
        (None, "folder without suffix 2", "folder without suffix", 2),
        (None, "v 7.mp4 2", "v 7.mp4", 2),
        (None, "v.mp4 7.mp4 2", "v.mp4 7.mp4", 2),
    ],
)
def test_delimiters(tmp_path, delimiter, line, path, label):
    found = read_annotations(listed(tmp_path, line), delimiter=delimiter)
    assert brief(found, tmp_path) == [(path, (label,))]


def test_names_as_labels_are_numbered_alphabetically_or_by_the_map(tmp_path):
    lines = "a.mp4 riding a bike\nb.mp4 Archery\nc.mp4 riding a bike"
    path = listed(tmp_path, lines)
    found = read_annotations(path)
    assert found.classes == ("Archery", "riding a bike")
    assert [item.labels for item in found.items] == [(1,), (0,), (1,)]
    mapped = read_annotations(path, labels=["none", "riding_a_bike", "archery"])
    assert [item.labels for item in mapped.items] == [(1,), (2,), (1,)]
    assert mapped.classes == ("none", "riding_a_bike", "archery")


def test_a_list_without_labels_has_the_classes_of_its_folders(tmp_path):
    touch(tmp_path, "Surfing/v_1.mp4", "Archery/v_2.mp4")
    text = "Surfing/v_1.avi\nArchery\\v_2.avi\n"  # as UCF-101's test lists, and from Windows
    found = read_annotations(listed(tmp_path, text))
    assert found.classes == ("Archery", "Surfing")
    assert [item.labels for item in found.items] == [(1,), (0,)]
    assert found.items[0].path == str(tmp_path / "Surfing" / "v_1.mp4")
    assert found.notes == ("2 paths listed with .avi were found with .mp4.",)


def test_frame_folders(tmp_path):
    touch(tmp_path, "a dir/img_1.jpg", "b/img_1.jpg")
    found = read_annotations(listed(tmp_path, "a dir 10 3\nb 7 0\n"))
    assert found.format == "frames"
    assert brief(found, tmp_path) == [("a dir", (3,)), ("b", (0,))]
    assert [item.num_frames for item in found.items] == [10, 7]


def test_several_labels_a_clip(tmp_path):
    text = "a b.mp4 3 1 3\nc.mp4 0\nd.mp4\ne.mp4 2,4\n"
    found = read_annotations(listed(tmp_path, text))
    assert found.format == "multilabel" and found.is_multilabel
    assert [item.labels for item in found.items] == [(1, 3), (0,), (), (2, 4)]
    assert found.class_counts().tolist() == [1, 1, 1, 1, 1]


def test_an_unknown_label_is_no_label(tmp_path):
    found = read_annotations(listed(tmp_path, "a.mp4 -1\nb.mp4 2\n"))
    assert [item.labels for item in found.items] == [(), (2,)]


@pytest.mark.parametrize(
    ("text", "format", "says"),
    [
        ("", None, "contains no clips"),
        ("\n  \n", None, "contains no clips"),
        ("a.mp4 10\nb.mp4\n", "frames", "Line 1"),
        ("dir ten 3\n", "frames", "a number of frames and a label"),
        ("v1.mp4\n", "list", "has no parent folder"),
    ],
)
def test_a_list_that_cannot_be(tmp_path, text, format, says):
    with pytest.raises(DataError, match=says):
        read_annotations(listed(tmp_path, text), format=format)


def test_what_is_no_text_or_not_there(tmp_path):
    binary = tmp_path / "list.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="Cannot read"):
        read_annotations(binary)
    with pytest.raises(DataError, match="File not found"):
        read_annotations(tmp_path / "absent.txt")
    with pytest.raises(UnknownNameError, match="Did you mean 'kinetics'"):
        read_annotations(binary, format="kinetic")
    with pytest.raises(DataError, match=r"root folder .* does not exist"):
        read_annotations(listed(tmp_path, "a.mp4 1"), root=tmp_path / "absent")


# --- labels outside the map ---------------------------------------------------------------------


def test_a_label_outside_the_map_is_refused_by_name(tmp_path):
    path = listed(tmp_path, "a.mp4 0\nb.mp4 7\nc.mp4 -3\n")
    found = read_annotations(path, num_classes=5)
    assert len(found.items) == 1
    assert [refusal.reason for refusal in found.refused] == [
        "label is 7, but must be 0 to 4",
        "label is -3, but must be 0 to 4",
    ]
    with pytest.raises(
        DataError, match=r"2 clips of .* not in the label map: .*b\.mp4 \(line 2\): label is 7"
    ):
        found.require_valid()


def test_labels_that_count_from_one_are_recognized_as_such(tmp_path):
    found = read_annotations(listed(tmp_path, "a.mp4 1\nb.mp4 3\n"), num_classes=3)
    assert (
        found.refused[0].reason == "label is 3, but must be 0 to 2; the labels seem to start at 1"
    )


def test_an_unknown_name_gets_the_nearest(tmp_path):
    found = read_annotations(listed(tmp_path, "a.mp4 surffing\n"), labels=["surfing", "archery"])
    assert found.refused[0].reason == (
        "label 'surffing' is not in the label map; did you mean 'surfing'?"
    )


# --- published tables ---------------------------------------------------------------------------


KINETICS = """label,youtube_id,time_start,time_end,split
air drumming,--abc_DEF-1,10,20,train
"Tai Chi, outside",x,0,10,train
air drumming,zz,000001,000011,val
"""


def test_kinetics_files_are_found_by_id_and_time(tmp_path):
    videos = tmp_path / "videos"
    touch(
        videos,
        "air_drumming/--abc_DEF-1_000010_000020.mkv",  # another suffix, another blank
        "deep/er/x_000000_000010.mp4",
        "other/zz_000001_000011.mp4",
        "air drumming/zz_000001_000011.mp4",
    )
    path = listed(tmp_path, KINETICS, "kinetics.csv")
    assert find_splits(path) == ["train", "val"]
    train = read_annotations(path, root=videos, split="train")
    assert train.format == "kinetics" and train.classes == ("Tai Chi, outside", "air drumming")
    assert brief(train, videos) == [
        ("air_drumming/--abc_DEF-1_000010_000020.mkv", (1,)),
        ("deep/er/x_000000_000010.mp4", (0,)),
    ]
    val = read_annotations(path, root=videos, split="val", labels=train.classes)
    assert brief(val, videos) == [("air drumming/zz_000001_000011.mp4", (1,))]


def test_kinetics_errors_name_the_row_and_the_split(tmp_path):
    path = listed(tmp_path, KINETICS, "k.csv")
    with pytest.raises(DataError, match=r"splits train, val; select one with --split"):
        read_annotations(path)
    with pytest.raises(UnknownNameError, match="Did you mean 'val'"):
        read_annotations(path, split="vall")
    with pytest.raises(DataError, match="no column 'time_end'"):
        read_annotations(listed(tmp_path, "label,youtube_id,time_start\na,b,1\n", "k.csv"))
    with pytest.raises(DataError, match=r"Row 2 .* time_start 'x'"):
        read_annotations(
            listed(tmp_path, "label,youtube_id,time_start,time_end\na,b,x,1\n", "k.csv")
        )


def test_an_absent_kinetics_clip_keeps_the_path_it_should_have(tmp_path):
    path = listed(tmp_path, KINETICS, "k.csv")
    found = read_annotations(path, split="val")
    assert brief(found, tmp_path) == [("air drumming/zz_000001_000011.mp4", (0,))]


def test_something_something(tmp_path):
    rows = [
        {"id": "78687", "template": "Holding [something] next to [something]", "label": "..."},
        {"id": 42, "template": "Opening [something]"},
        {"id": "7", "template": "Closing [something]"},
    ]
    path = listed(tmp_path, json.dumps(rows), "train.json")
    touch(tmp_path, "videos/78687.webm", "videos/42.mp4")
    with pytest.raises(DataError, match="give it with --labels"):
        read_annotations(path)
    ids = {"Opening something": "1", "Holding something next to something": "0"}
    maps = listed(tmp_path, json.dumps(ids), "labels.json")
    for labels in (None, label_map(str(maps))):  # beside the list, and given
        found = read_annotations(path, root=tmp_path / "videos", labels=labels)
        assert found.format == "sthv2"
        assert brief(found, tmp_path) == [("videos/78687.webm", (0,)), ("videos/42.mp4", (1,))]
        assert found.classes == ("Holding something next to something", "Opening something")
        assert "'Closing something' is not in the label map" in found.refused[0].reason


def test_mmaction_json(tmp_path):
    rows = [
        {"filename": "a b.mp4", "label": [1, 4]},
        {"frame_dir": "frames/c", "total_frames": 12, "label": 2},
        {"filename": "d.mp4", "label": -1},
    ]
    found = read_annotations(listed(tmp_path, json.dumps(rows), "l.json"))
    assert found.format == "mmaction" and found.is_multilabel
    assert [item.labels for item in found.items] == [(1, 4), (2,), ()]
    assert found.items[1].num_frames == 12


@pytest.mark.parametrize("text", ["{}", "[1]", "not json", '[{"name": "x"}]', "[" * 100_000])
def test_json_of_another_kind(tmp_path, text):
    with pytest.raises(DataError):
        read_annotations(listed(tmp_path, text, "l.json"))


# --- folders ----------------------------------------------------------------------------------


def test_a_folder_of_classes(tmp_path):
    touch(
        tmp_path,
        "b/2.mp4",
        "b/deep/1.avi",
        "b/notes.txt",
        "a/frames/img_1.jpg",
        "a/frames/img_2.jpg",
        ".hidden/x.mp4",
    )
    found = read_annotations(tmp_path)
    assert found.format == "folder" and found.classes == ("a", "b")
    assert brief(found, tmp_path) == [("a/frames", (0,)), ("b/2.mp4", (1,)), ("b/deep/1.avi", (1,))]


def test_folders_called_by_numbers_keep_their_order(tmp_path):
    touch(tmp_path, *(f"{number}/clip.mp4" for number in range(12)))
    found = read_annotations(tmp_path)
    assert found.classes == tuple(str(number) for number in range(12))
    named = read_annotations(tmp_path, labels=[f"class {n}" for n in range(12)])
    assert sorted(item.labels[0] for item in named.items) == list(range(12))


def test_a_folder_of_splits(tmp_path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "val/b/4.mp4")
    assert find_splits(tmp_path) == ["train", "val", "test"]
    with pytest.raises(DataError, match="contains the splits train, val, test"):
        read_annotations(tmp_path)
    train = read_annotations(tmp_path, split="train")
    val = read_annotations(tmp_path, split="val", labels=train.classes)
    assert brief(val, tmp_path) == [("val/b/4.mp4", (1,))]  # b is 1 there as well
    with pytest.raises(UnknownNameError, match="split"):
        read_annotations(tmp_path, split="dev")
    assert find_splits(tmp_path / "train") == []


def test_a_folder_without_classes(tmp_path):
    touch(tmp_path, "1.mp4")
    with pytest.raises(DataError, match="one subfolder per class"):
        read_annotations(tmp_path)


def test_a_list_has_no_splits(tmp_path):
    with pytest.raises(DataError, match="is a single split"):
        read_annotations(listed(tmp_path, "a.mp4 1"), split="val")


def test_label_maps(tmp_path):
    assert len(label_map("kinetics400")) == 400
    assert label_map(str(listed(tmp_path, "walk\nrun\n"))) == ("walk", "run")
    with pytest.raises(DataError, match="is not shipped"):
        label_map("sthv2")


# --- splits -----------------------------------------------------------------------------------


def many(num_clips: int, num_classes: int) -> Annotations:
    items = tuple(
        ClipRecord(f"g{n // 3}/{n}.mp4", (n // 3 % num_classes,)) for n in range(num_clips)
    )
    return Annotations("made", "list", items)


def test_holding_out_is_by_class_and_repeatable():
    everything = many(90, 3)
    train, val = hold_out(everything, 0.2, seed=1)
    assert set(train.items) | set(val.items) == set(everything.items)
    assert val.class_counts().tolist() == [6, 6, 6]
    require_disjoint(train, val)
    assert hold_out(everything, 0.2, seed=1)[1] == val != hold_out(everything, 0.2, seed=2)[1]


def test_holding_out_whole_groups():
    train, val = hold_out(many(90, 3), 0.2, group_of=lambda item: item.path.split("/")[0])
    groups = [{item.path.split("/")[0] for item in split.items} for split in (train, val)]
    assert not groups[0] & groups[1] and len(groups[1]) == 6


def test_the_only_clip_of_a_class_stays_in_training():
    train, val = hold_out(Annotations("one", "list", (ClipRecord("a.mp4", (0,)),)), 0.9)
    assert len(train.items) == 1 and not val.items


def test_splits_that_share_a_clip_are_refused_by_name():
    both = many(9, 3)
    with pytest.raises(
        DataError, match=r"9 clips are in both 'made' and 'made', such as g0/0\.mp4"
    ):
        require_disjoint(both, both)
    with pytest.raises(DataError, match="contains no clips"):
        both.where(lambda item: False).require_valid()
