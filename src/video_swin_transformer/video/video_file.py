"""Video files: exact frames with as little decoding as possible.

What counts is the sequence a complete decode outputs. There are two ways to know it:

observed   decode everything once. Always right, so it is taken for every short video, and for
           all formats whose packets do not tell the frames (avi, mpeg, ts, gif, ...). Frames are
           kept in their compact coded format while they fit into MAX_KEPT_BYTES, so that nothing is
           decoded twice.
predicted  for long videos in mp4/mov and mkv/webm with codecs that give one frame a packet: the
           pts of the packets say it all. Wanted frames are reached from the key frame before
           them, and every frame that comes out is compared with what was predicted. Any surprise
           leads to a decode from the start, and if that surprises too, to a complete one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import VideoDecodeError
from .container import decode_error, require_size, translated
from .demuxer import IndexMismatchError, Tape
from .packet_index import Ints, Run, Timeline
from .pixels import FrameConverter, Pixels

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_KEPT_BYTES = 128 * 2**20  # decoded frames kept of a short video: about 1000 of 320x240
NUM_HEAD_FRAMES = 6  # decoded at once to verify a prediction; also gives size and orientation

_PREDICTABLE_FORMATS = frozenset({"mov", "matroska"})
_SEEKABLE_FORMATS = frozenset({"mov", "matroska", "avi"})
_ONE_TO_ONE_CODECS = frozenset(
    {"h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mjpeg", "prores", "dnxhd", "ffv1"}
)
# These decoders can leave out frames that no other frame builds on.
_SKIPPING_CODECS = frozenset({"h264", "hevc"})
# Frames of these build on everything before, or their key flags are not to be trusted.
_UNSEEKABLE_CODECS = frozenset({"gif", "apng", "png", "qtrle", "flashsv", "flashsv2", "cinepak"})


@dataclass
class _Survey:
    """What a complete decode showed."""

    order: list[int] = field(default_factory=list)  # packet_indices in order of output
    corrupt: list[int] = field(default_factory=list)  # packet_indices of frames flagged as damaged
    frames: list[VideoFrame] | None = field(default_factory=list)  # None: too many to keep
    num_bytes: int = 0

    def add(self, packet_index: int, frame: VideoFrame) -> None:
        self.order.append(packet_index)
        if frame.is_corrupt:
            self.corrupt.append(packet_index)
        if self.frames is not None:
            self.frames.append(frame)
            self.num_bytes += sum(plane.buffer_size for plane in frame.planes)
            if self.num_bytes > MAX_KEPT_BYTES:
                self.frames = None


class VideoFile:
    """A video file. Raises VideoDecodeError on opening what is no whole, decodable video."""

    num_frames: int
    fps: float | None
    times_seconds: NDArray[np.float64] | None
    height: int
    width: int

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._kept: dict[int, VideoFrame] = {}  # position -> frame, all of a short video
        self._seek_single_threaded = False
        self._tape = Tape(path, name)
        try:
            self._can_seek = (
                self._tape.format in _SEEKABLE_FORMATS
                and self._tape.codec not in _UNSEEKABLE_CODECS
            )
            self._is_predictable = (
                self._tape.format in _PREDICTABLE_FORMATS and self._tape.codec in _ONE_TO_ONE_CODECS
            )
            if not self._predict():
                self._observe()
            self._learn_times()
        except IndexMismatchError as error:
            self.close()
            raise self._changed() from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives back file and memory; may be called again."""
        self._kept = {}
        self._tape.close()

    def read(self, positions: Ints, deliver: Callable[[int, Pixels], None]) -> None:
        """Hands over the frames at `positions` (increasing), each as (position, RGB pixels).

        A frame may be handed over again when the first way of reading turns out wrong.
        """

        def convert(position: int, frame: VideoFrame) -> None:
            with translated(self._name, f"converting frame {position}"):
                deliver(position, self._converter.to_rgb(frame))

        self._refuse_damaged(positions)
        if self._kept:
            for position in positions.tolist():
                convert(position, self._kept[position])
            return
        try:
            self._decode(positions, convert)
        except IndexMismatchError as error:
            raise self._changed() from error
        self._refuse_damaged(positions)

    def _decode(self, positions: Ints, deliver: Callable[[int, VideoFrame], None]) -> None:
        """The fast way first; carefully from the start after surprises; then look again."""
        # Seeking into an open group of pictures makes the strict decoder of h264 complain, which
        # the single-threaded one does not; what worked once is tried first from then on.
        for single_threaded in (False, True) if self._can_seek else (False,):
            if self._seek_single_threaded and not single_threaded:
                continue
            try:
                self._try_runs(positions, deliver, single_threaded=single_threaded)
                self._seek_single_threaded = single_threaded
                return
            except IndexMismatchError:
                pass
        try:
            self._decode_single_threaded(positions, deliver)
            # Damage surprises on either way; without any, it was the seek that failed.
            self._can_seek = self._can_seek and bool(self._timeline.damaged.any())
        except IndexMismatchError:
            self._observe()
            self._learn_times()
            if positions[-1] >= self.num_frames:
                raise decode_error(
                    self._name,
                    f"it promises more frames than the {self.num_frames} that can be decoded",
                ) from None
            self._refuse_damaged(positions)
            self._decode_single_threaded(positions, deliver)

    def _try_runs(
        self, positions: Ints, deliver: Callable[[int, VideoFrame], None], *, single_threaded: bool
    ) -> None:
        if not self._can_seek or single_threaded != self._tape.is_single_threaded:
            self._tape.rewind(single_threaded=single_threaded)
        for run in self._timeline.plan(positions, can_seek=self._can_seek):
            self._decode_run(run, deliver, is_trial=True)

    def _decode_single_threaded(
        self, positions: Ints, deliver: Callable[[int, VideoFrame], None]
    ) -> None:
        self._tape.rewind(single_threaded=True)
        run = self._timeline.plan(positions, can_seek=False)[0]
        self._decode_run(run, deliver, is_trial=False)

    def _changed(self) -> VideoDecodeError:
        return decode_error(self._name, "its content changes while it is being read")

    def _refuse_damaged(self, positions: Ints) -> None:
        bad = positions[self._timeline.damaged[positions]]
        if len(bad):
            raise decode_error(
                self._name,
                f"frame {bad[0]} of {self.num_frames} is damaged or builds on a damaged one",
            )

    # Knowing the frames --------------------------------------------------------------------

    def _predict(self) -> bool:
        """Takes the timeline from the packets of a long video, if its first frames agree."""
        if not self._is_predictable or self._tape.estimated_bytes() <= MAX_KEPT_BYTES:
            return False
        for _ in self._tape.packets():
            pass
        order = self._tape.index.display_order()
        if order is None:
            return False
        self._timeline = Timeline(order, self._tape.index, one_to_one=True)
        head = np.arange(min(NUM_HEAD_FRAMES, len(order)), dtype=np.int64)
        seen: list[VideoFrame] = []
        try:
            self._try_runs(head, lambda _, frame: seen.append(frame), single_threaded=False)
        except IndexMismatchError:
            return False
        self._set_size(seen[0])
        self.num_frames = len(self._timeline)
        return True

    def _observe(self) -> None:
        """Decodes everything, and takes what comes out as the timeline."""
        is_short = self._tape.estimated_bytes() <= MAX_KEPT_BYTES
        single_threaded = self._tape.flags_damage and is_short  # threads gain little there
        survey = self._survey(single_threaded=single_threaded)
        predicted = self._tape.index.display_order() if self._is_predictable else None
        if not single_threaded and self._is_suspicious(survey, predicted):
            survey = self._survey(single_threaded=True)
        index = self._tape.index
        # What precedes the first key packet cannot be decoded, and that is no damage.
        first_key = int(index.keys[0]) if len(index.keys) else 0
        faults = [packet_index for packet_index in self._tape.faults if packet_index >= first_key]
        if not survey.order:
            cause = "all its frames are damaged" if faults else "it holds no frame to show"
            raise decode_error(self._name, cause)
        observed = np.asarray(survey.order, np.int64)
        if predicted is not None and not faults and not np.array_equal(observed, predicted):
            predicted = None  # nothing is damaged, the packets tell too little
        order = observed if predicted is None else predicted
        timeline = Timeline(order, index, one_to_one=predicted is not None)
        timeline.mark_damaged(survey.corrupt)
        timeline.mark_damaged(np.flatnonzero(np.frombuffer(index.corrupt, np.uint8)).tolist())
        if predicted is not None:
            timeline.mark_damaged(np.setdiff1d(predicted, observed).tolist())
        elif faults:  # how many frames are lost is unknown, so later ones have no certain number
            timeline.mark_damaged(observed[observed >= faults[0]].tolist())
            timeline.damaged |= np.cumsum(timeline.damaged) > 0
        self._timeline = timeline
        self.num_frames = len(timeline)
        self._can_seek = self._can_seek and timeline.unique
        self._keep(survey)

    def _survey(self, *, single_threaded: bool) -> _Survey:
        survey = _Survey()
        self._tape.rewind(single_threaded=single_threaded)
        for packet_index, frame in self._tape.frames(self._tape.packets()):
            if not survey.order:
                self._set_size(frame)
            survey.add(packet_index, frame)
        return survey

    def _is_suspicious(self, survey: _Survey, predicted: Ints | None) -> bool:
        return bool(
            self._tape.faults
            or survey.corrupt
            or (predicted is not None and survey.order != predicted.tolist())
        )

    def _keep(self, survey: _Survey) -> None:
        if survey.frames is None:
            return
        where = range(len(survey.order))
        positions = self._timeline.position_of[survey.order] if self._timeline.unique else where
        self._kept = dict(zip(map(int, positions), survey.frames, strict=True))

    def _set_size(self, first: VideoFrame) -> None:
        require_size(self._name, first.width, first.height)
        self._converter = FrameConverter(first)
        self.height, self.width = self._converter.height, self._converter.width

    def _learn_times(self) -> None:
        """Times of all frames, and the average rate (the container's own where it is right)."""
        ticks = self._timeline.times(self._tape.index)
        seconds_per_tick = self._tape.seconds_per_tick
        self.times_seconds = None
        self.fps = None
        if ticks is not None and seconds_per_tick:
            self.times_seconds = np.multiply(ticks, seconds_per_tick, dtype=np.float64)
            duration_seconds = int(ticks[-1]) * seconds_per_tick
            if duration_seconds > 0:
                self.fps = (self.num_frames - 1) / duration_seconds
        told = self._tape.rate
        if told and (self.fps is None or abs(told / self.fps - 1) < 0.01):
            self.fps = told  # 30000/1001 rather than what rounded times give

    # Decoding ------------------------------------------------------------------------------

    def _decode_run(
        self, run: Run, deliver: Callable[[int, VideoFrame], None], *, is_trial: bool
    ) -> None:
        """Decodes one run and hands over its wanted frames.

        In a trial every irregularity raises IndexMismatchError. Otherwise damaged frames are marked
        and passed over, and only an unexplained difference is a surprise. Frames that come out
        after the last wanted one are looked at, too: a B-frame is shown before the damaged one
        it builds on.
        """
        tape, timeline = self._tape, self._timeline
        is_seek = is_trial and self._can_seek
        tape.faults = []
        packets = tape.packets_from(run.start_packet) if is_seek else tape.packets()
        last = run.last_packet if timeline.one_to_one else None
        may_skip = is_seek and timeline.one_to_one and tape.codec in _SKIPPING_CODECS
        needed = sorted(timeline.packet_indices[list(run.wanted)].tolist()) if may_skip else None
        pending = list(reversed(run.wanted))
        expected, has_started = run.start_position, False
        late: list[int] = []
        for packet_index, frame in tape.frames(packets, last, needed):
            position = int(timeline.position_of[packet_index]) if timeline.unique else expected
            if is_seek and not has_started and position < expected:
                continue  # shown before the key frame: not decodable from here, not wanted
            has_started = True
            if is_trial and (tape.faults or frame.is_corrupt):
                raise IndexMismatchError
            if frame.is_corrupt:
                timeline.mark_damaged([packet_index])
            if not pending:
                late.append(packet_index)
                continue
            if tape.faults and position != expected:
                lost = slice(expected, position) if position > expected else slice(position, None)
                timeline.mark_damaged(timeline.packet_indices[lost].tolist())
                expected = position
            elif may_skip and expected < position <= pending[-1]:
                expected = position
            if position != expected or timeline.packet_indices[position] != packet_index:
                raise IndexMismatchError
            while pending and pending[-1] <= position:
                if pending.pop() == position:
                    deliver(position, frame)
            expected += 1
            if not pending and last is None:  # all its damage is known from a complete decode
                return
        if (tape.faults and is_trial) or (pending and not tape.faults):
            raise IndexMismatchError
        if tape.faults:
            missing = np.setdiff1d(timeline.packet_indices[expected:], late)
            timeline.mark_damaged(missing[missing <= run.last_packet].tolist())
