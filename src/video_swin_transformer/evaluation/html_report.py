"""The report for people: one HTML file with everything in it, no script, no url outside."""

from __future__ import annotations

import base64
import math
from html import escape

import cv2

from ..errors import VideoSwinError
from ..video import VideoReader
from .charts import confusion_svg, reliability_svg
from .intervals import Measure
from .summary import ClassResult, ClipResult, EvaluationResult

_NUM_PICTURES = 12  # of the worst clips
_PICTURE_HEIGHT = 120  # pixels
_NUM_FAILURES = 50
_NUM_OPEN_CLASSES = 24  # more are folded away

TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "map": "mAP",
    "hit1": "first guess right",
}

_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;
--card:#f6f8fa;--bar:#1f6feb;--bad:#b42318}
@media(prefers-color-scheme:dark){:root{--ground:#0f1419;--ink:#e6e9ed;--soft:#9aa4ae;
--line:#30363d;--card:#171d24;--bar:#4c8dff;--bad:#ff8a7a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1000px;padding:16px;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.5em 0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2em 0 .5em}
p{margin:.5em 0}.soft{color:var(--soft);font-size:.875rem;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:16px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px}
.tile b{display:block;font-size:1.75rem;line-height:1.2}
.wide{overflow-x:auto}.wide svg{max-width:none;display:block}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);
vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.path{overflow-wrap:anywhere;min-width:14em}
.track{display:block;width:90px;height:8px;margin-top:7px;background:var(--line);border-radius:4px}
.track i{display:block;height:8px;background:var(--bar);border-radius:4px}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:12px}
.clip{background:var(--card);border:1px solid var(--line);border-radius:8px;overflow:hidden;
font-size:.8125rem}
.clip img{display:block;width:100%;height:120px;object-fit:contain;background:#000}
.clip div{padding:8px 10px;overflow-wrap:anywhere}
summary{cursor:pointer;padding:8px 0;color:var(--bar)}
.clip .soft{font-size:.75rem}
.bad{color:var(--bad)}
"""


def render_report(result: EvaluationResult) -> str:
    """The whole page as text."""
    settings = result.settings
    parts = [_head(result), _tiles(result)]
    if result.failures:
        parts.append(_failures(result))
    if result.confusion is not None:
        parts.append(
            "<h2>What is taken for what</h2><p class=soft>Row: the right class. Column: the "
            "predicted one. The stronger the blue, the larger the share of the row.</p>"
            f"<div class=wide>{confusion_svg(result)}</div>"
        )
    if result.calibration is not None:
        parts.append(
            "<h2>Does a score mean what it says?</h2><p class=soft>Bars on the dashed line: yes. "
            "Below it: too sure of itself. Stronger bars stand for more clips. "
            f"Expected calibration error: {result.calibration.error:.3f}.</p>"
            f"<div class=wide>{reliability_svg(result.calibration)}</div>"
        )
    parts += [_classes(result), _worst(result), _settings(result)]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none';img-src data:;style-src 'unsafe-inline'\">"
        f"<title>EvaluationResult of {escape(str(settings['model']))}</title>"
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def percent(measure: Measure) -> str:
    """A share with its interval: 81.3 % (79.9 to 82.6)."""
    if math.isnan(measure.low):
        return f"{100 * measure.value:.1f} %"
    return f"{100 * measure.value:.1f} % ({100 * measure.low:.1f} to {100 * measure.high:.1f})"


def protocol(result: EvaluationResult) -> str:
    """Views, rule and averaging in one line."""
    sampling, preprocessing = result.settings["sampling"], result.settings["preprocessing"]
    crops = "full" if preprocessing.get("whole_frame") else preprocessing["num_crops"]
    clips = 1 if sampling["rule"] == "uniform" else sampling["num_clips"]
    of = {"prob": "mean of probabilities", "score": "mean of logits"}[result.average]
    return (
        f"{clips}x{crops} views of {sampling['num_frames']} frames, rule {sampling['rule']}, {of}"
    )


def _head(result: EvaluationResult) -> str:
    settings = result.settings
    return (
        f"<h1>{escape(str(settings['model']))}</h1><p>{len(result.clips)} clips of "
        f"<b>{escape(str(settings['data']))}</b>, {escape(protocol(result))}.</p>"
    )


def _tiles(result: EvaluationResult) -> str:
    tiles = []
    for key, measure in result.measures.items():
        title = TITLES[key]
        if key == "mean_class_accuracy" and result.mean_class_rule == "official":
            title += " (official)"
        interval = f"95 %: {100 * measure.low:.1f} to {100 * measure.high:.1f}"
        tiles.append(
            f"<div class=tile>{title}<b>{100 * measure.value:.1f} %</b>"
            f"<span class=soft>{interval}</span></div>"
        )
    if result.calibration is not None:
        tiles.append(
            f"<div class=tile>calibration error<b>{result.calibration.error:.3f}</b>"
            "<span class=soft>0 is best</span></div>"
        )
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _failures(result: EvaluationResult) -> str:
    rows = "".join(
        f"<tr><td class=path>{escape(one.path)}<td class=path>{escape(one.reason)}"
        for one in result.failures[:_NUM_FAILURES]
    )
    more = len(result.failures) - _NUM_FAILURES
    rest = f"<p class=soft>... and {more} more; clips.csv has all.</p>" if more > 0 else ""
    return (
        f"<h2 class=bad>Clips that could not be used: {len(result.failures)}</h2>"
        "<p class=soft>They are in none of the figures.</p>"
        "<div class=wide><table><tr><th>clip<th>why"
        f"{rows}</table></div>{rest}"
    )


def _classes(result: EvaluationResult) -> str:
    several = result.settings["is_multilabel"]
    known = [found for found in result.classes if found.accuracy is not None]
    known.sort(key=lambda found: (found.accuracy.value if found.accuracy else 0, found.name))
    absent = len(result.classes) - len(known)
    note = f" {absent} more of the model do not occur in these clips." if absent else ""
    what = "average precision" if several else "right"
    interval = "" if several else "<th class=n>95 %"
    head = (
        f"<tr><th>class<th class=n>clips<th class=n>{what}<th>{interval}"
        f"{'' if several else '<th>most often taken for'}"
    )

    def table(some: list[ClassResult]) -> str:
        rows = "".join(_class_row(found, several=several) for found in some)
        return f"<div class=wide><table>{head}{rows}</table></div>"

    first, rest = known[:_NUM_OPEN_CLASSES], known[_NUM_OPEN_CLASSES:]
    folded = f"<details><summary>{len(rest)} more</summary>{table(rest)}</details>" if rest else ""
    return (
        f"<h2>Classes, hardest first</h2><p class=soft>{len(known)} with clips.{note}</p>"
        f"{table(first)}{folded}"
    )


def _class_row(found: ClassResult, *, several: bool) -> str:
    assert found.accuracy is not None
    value = found.accuracy.value
    cells = (
        f"<tr><td>{escape(found.name)}<td class=n>{found.num_clips}<td class=n>"
        f'{100 * value:.1f} %<td><span class=track><i style="width:{100 * value:.0f}%"></i></span>'
    )
    if several:
        return cells
    taken = f"{escape(found.taken_for)} ({found.num_taken})" if found.taken_for else ""
    low, high = 100 * found.accuracy.low, 100 * found.accuracy.high
    return f"{cells}<td class=n>{low:.0f} to {high:.0f}<td>{taken}"


def _worst(result: EvaluationResult) -> str:
    worst = result.worst
    if not worst:
        return "<h2>Worst clips</h2><p>Every clip is recognized.</p>"
    cards = []
    for place, clip in enumerate(worst):
        picture = _picture(clip.path) if place < _NUM_PICTURES else ""
        cards.append(_card(result, clip, picture))
    return (
        "<h2>Worst clips</h2><p class=soft>Least sure of what is right. Labels may be wrong, "
        f"too.</p><div class=clips>{''.join(cards)}</div>"
    )


def _card(result: EvaluationResult, clip: ClipResult, picture: str) -> str:
    right = ", ".join(escape(result.class_name(label)) for label in clip.labels)
    guess = escape(result.class_name(clip.predicted))
    image = f'<img alt="" src="{picture}">' if picture else ""
    return (
        f"<div class=clip>{image}<div><b>{right}</b>: {100 * clip.label_score:.1f} %, place "
        f"{clip.rank}<br>taken for {guess}: {100 * clip.confidence:.1f} %<br>"
        f"<span class=soft>{escape(clip.path)}</span></div></div>"
    )


def _picture(path: str) -> str:
    """A data url of the middle frame, small; empty where the file is gone."""
    try:
        with VideoReader(path) as video:
            frame = video.frames_at([video.num_frames // 2])[0]
    except VideoSwinError:
        return ""
    width = max(1, round(frame.shape[1] * _PICTURE_HEIGHT / frame.shape[0]))
    small = cv2.resize(frame, (width, _PICTURE_HEIGHT), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _settings(result: EvaluationResult) -> str:
    settings = result.settings
    shown = {
        "model": settings["model"],
        "SHA-256 of the weights": settings["weights_sha256"] or "published",
        "engine": settings["engine"],
        "views": protocol(result),
        "mean class accuracy": {
            "present": "over the classes that occur in the clips",
            "official": "as the official code: a class predicted without occurring counts as 0",
        }[result.mean_class_rule],
        "intervals": "95 %: Wilson for shares of clips, bootstrap over clips for means over "
        "classes",
        "clips": f"{len(result.clips)} evaluated, {len(result.failures)} not usable",
    }
    rows = "".join(
        f"<tr><th>{escape(key)}<td class=path>{escape(str(value))}" for key, value in shown.items()
    )
    return f"<h2>How this was computed</h2><div class=wide><table>{rows}</table></div>"
