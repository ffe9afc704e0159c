"""The bridge to transformers: its Auto classes, pipeline and Trainer on folders of ours."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import video_swin_transformer as vst

transformers = pytest.importorskip("transformers")
hf = pytest.importorskip("video_swin_transformer.hf")

ROOT = Path(__file__).parent.parent
EMBEDDED = ROOT / "src" / "video_swin_transformer" / "pretrained" / "camera_motion"
CLIP = ROOT / "examples" / "clips" / "pan_left.mp4"
AutoModel = transformers.AutoModelForVideoClassification
TINY = vst.BundleConfig(
    model=vst.ModelConfig(
        embed_dim=12, depths=(1, 1), num_heads=(2, 2), window_size=(2, 3, 3), num_classes=3
    ),
    sampling=vst.ClipSampling(num_frames=4, stride=1, num_clips=2),
    preprocessing=vst.Preprocessing(short_side=32, crop_size=32, num_crops=3),
    labels=("run", "jump", "sit"),
    name="tiny",
)


@pytest.fixture
def ours() -> vst.VideoSwinTransformer:
    torch.manual_seed(0)
    return vst.VideoSwinTransformer(TINY).eval()


@pytest.fixture
def folder(tmp_path: Path, ours: vst.VideoSwinTransformer) -> Path:
    ours.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def _edit(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("saved", [False, True])
def test_pipeline_says_what_classify_says(saved: bool, tmp_path: Path) -> None:
    folder = EMBEDDED
    if saved:
        folder = tmp_path / "copy"
        vst.VideoSwinTransformer.from_pretrained(EMBEDDED).save_pretrained(folder)
    said = transformers.pipeline("video-classification", model=str(folder))(str(CLIP), top_k=10)
    expected = vst.Predictor.load(folder, runtime="torch").with_views(1, 1).classify(CLIP)
    top = expected.top(10)
    assert [entry["label"] for entry in said] == [label for label, _ in top]
    np.testing.assert_allclose(
        [entry["score"] for entry in said], [score for _, score in top], rtol=0, atol=1e-5
    )


def test_config_is_read_as_it_is_and_comes_back(folder: Path, tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(folder)
    assert isinstance(config, hf.VideoSwinConfig)
    assert config.bundle == TINY and config.num_frames == 4
    assert config.id2label == {0: "run", 1: "jump", 2: "sit"} and config.label2id["sit"] == 2
    config.save_pretrained(tmp_path / "again")
    text = (tmp_path / "again" / "config.json").read_text()
    assert vst.BundleConfig.from_json(text) == TINY
    assert transformers.AutoConfig.from_pretrained(tmp_path / "again").bundle == TINY
    assert hf.VideoSwinConfig().bundle == vst.BundleConfig()


def test_classes_without_names_are_called_by_their_number(tmp_path: Path) -> None:
    bundle = dataclasses.replace(TINY, labels=())
    config = hf.VideoSwinConfig.from_bundle(bundle)
    assert config.id2label == {0: "0", 1: "1", 2: "2"} and config.bundle == bundle
    config.save_pretrained(tmp_path)
    assert vst.BundleConfig.from_json((tmp_path / "config.json").read_text()) == bundle


def test_the_same_tensors_and_logits(folder: Path, ours: vst.VideoSwinTransformer) -> None:
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert isinstance(model, hf.VideoSwinForVideoClassification) and not model.training
    assert list(model.state_dict()) == list(ours.state_dict())
    video = torch.randn(2, 4, 3, 32, 32)
    out = model(pixel_values=video, labels=torch.tensor([0, 2]))
    expected = ours(video.transpose(1, 2))
    torch.testing.assert_close(out.logits, expected)
    torch.testing.assert_close(
        out.loss, torch.nn.functional.cross_entropy(expected, torch.tensor([0, 2]))
    )


def test_what_transformers_saves_is_a_folder_of_ours(
    folder: Path, tmp_path: Path, ours: vst.VideoSwinTransformer
) -> None:
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "hf")
    back = vst.VideoSwinTransformer.from_pretrained(tmp_path / "hf")
    assert back.bundle == TINY
    video = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(back(video), ours(video))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("backbone.norm.weight"), "missing: backbone.norm.weight"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected: extra"),
        (
            lambda t: t.update({"cls_head.fc_cls.bias": torch.zeros(4)}),
            "mismatched shape: cls_head.fc_cls.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, change: Any, said: str) -> None:
    _edit(folder, change)
    with pytest.raises(vst.CheckpointError, match=said):
        AutoModel.from_pretrained(folder)


def test_a_new_classifier_only_where_it_is_asked_for(folder: Path) -> None:
    with pytest.raises(vst.CheckpointError, match="ignore_mismatched_sizes"):
        AutoModel.from_pretrained(folder, num_labels=5)
    model = AutoModel.from_pretrained(folder, num_labels=5, ignore_mismatched_sizes=True)
    assert model.cls_head.fc_cls.weight.shape == (5, 24)
    assert 0 < model.cls_head.fc_cls.weight.std().item() < 0.02
    assert model.config.bundle.model.num_classes == 5
    backbone = load_file(folder / "model.safetensors")["backbone.norm.weight"]
    assert torch.equal(model.backbone.norm.weight, backbone)
    _edit(folder, lambda t: t.update({"backbone.norm.weight": torch.zeros(7)}))
    with pytest.raises(vst.CheckpointError, match=r"backbone\.norm\.weight"):
        AutoModel.from_pretrained(folder, ignore_mismatched_sizes=True)


def test_the_processor_reads_as_the_predictor(folder: Path, tmp_path: Path) -> None:
    processor = transformers.AutoVideoProcessor.from_pretrained(folder)
    assert isinstance(processor, hf.VideoSwinVideoProcessor)
    pixels = processor([str(CLIP), CLIP])["pixel_values"]
    assert pixels.shape == (2, 4, 3, 32, 32)
    views = vst.Predictor.load(folder, runtime="torch").with_views(1, 1).views(CLIP)
    np.testing.assert_array_equal(pixels[0].transpose(0, 1).numpy(), views[0])
    frames = np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), np.uint8)
    assert processor(frames, do_sample_frames=False)["pixel_values"].shape == (1, 7, 3, 32, 32)
    assert processor(frames, num_frames=6)["pixel_values"].shape == (1, 6, 3, 32, 32)
    processor.save_pretrained(tmp_path / "alone")  # without a config.json beside it
    alone = transformers.AutoVideoProcessor.from_pretrained(tmp_path / "alone")
    assert torch.equal(alone(CLIP)["pixel_values"], pixels[:1])
    with pytest.raises(vst.VideoDecodeError):
        processor("no such file.mp4")


def test_a_training_step_lowers_the_loss(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder).train()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    video, labels = torch.randn(4, 4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    losses = []
    for _ in range(12):
        loss = model(pixel_values=video, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_the_trainer_takes_the_model(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    data = [{"pixel_values": torch.randn(4, 3, 32, 32), "labels": i % 3} for i in range(4)]
    settings = transformers.TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=2,
        use_cpu=True,
        report_to=[],
        activation_checkpointing=True,
        disable_tqdm=True,
    )
    processor = transformers.AutoVideoProcessor.from_pretrained(folder)
    trainer = transformers.Trainer(
        AutoModel.from_pretrained(folder), settings, train_dataset=data, processing_class=processor
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "out"))
    assert vst.VideoSwinTransformer.from_pretrained(tmp_path / "out").bundle == TINY
    said = transformers.pipeline("video-classification", model=str(tmp_path / "out"))(str(CLIP))
    assert {entry["label"] for entry in said} == {"run", "jump", "sit"}


def test_without_transformers_a_sentence_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import video_swin_transformer.errors as e\n"
        "try:\n    import video_swin_transformer.hf\n"
        "except e.MissingExtraError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "video-swin-transformer[hf]" in done.stdout


def test_settings_file_is_json(folder: Path) -> None:
    written = json.loads((folder / "video_preprocessor_config.json").read_text())
    assert written == {"video_processor_type": hf.VideoSwinVideoProcessor.__name__}


def test_auto_model_gives_features_without_the_classifier(
    folder: Path, ours: vst.VideoSwinTransformer
) -> None:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    assert isinstance(model, hf.VideoSwinModel)
    assert not any(name.startswith("cls_head") for name in model.state_dict())
    video = torch.rand(2, 4, 3, 32, 32)
    with torch.no_grad():
        output = model(video)
        expected = ours.forward_features(video.transpose(1, 2))
    torch.testing.assert_close(output.last_hidden_state, expected.flatten(2).transpose(1, 2))
    torch.testing.assert_close(output.pooler_output, expected.mean((2, 3, 4)))
    assert output.hidden_states is None
    tokens, pooled = model(video, return_dict=False)
    assert tokens.shape == (2, 2 * 4 * 4, 24) and pooled.shape == (2, 24)


def test_auto_model_refuses_weights_that_do_not_fit(folder: Path) -> None:
    _edit(folder, lambda tensors: tensors.pop("backbone.norm.weight"))
    with pytest.raises(vst.CheckpointError, match=r"missing: backbone\.norm\.weight"):
        transformers.AutoModel.from_pretrained(folder)
    _edit(folder, lambda t: t.update({"backbone.extra": torch.zeros(1)}))
    with pytest.raises(vst.CheckpointError, match=r"backbone\.extra"):
        transformers.AutoModel.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["AutoModel", "AutoModelForVideoClassification"])
def test_hidden_states_are_the_tokens_after_each_stage(kind: str, folder: Path) -> None:
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    video = torch.rand(1, 4, 3, 32, 32)
    with torch.no_grad():
        plain, output = model(video), model(video, output_hidden_states=True)
        model.config.output_hidden_states = True
        as_configured = model(video)
    assert [tuple(state.shape) for state in output.hidden_states] == [
        (1, 2 * 8 * 8, 12),
        (1, 2 * 4 * 4, 24),
        (1, 2 * 4 * 4, 24),
    ]
    torch.testing.assert_close(output[0], plain[0])
    normed = model.backbone.norm(output.hidden_states[-1])
    if kind == "AutoModel":
        torch.testing.assert_close(normed, output.last_hidden_state)
    else:
        torch.testing.assert_close(model.cls_head.fc_cls(normed.mean(1)), output.logits)
    assert len(as_configured.hidden_states) == 3


def test_the_processor_takes_tensors_and_lists_of_frames():
    frames = np.random.default_rng(0).integers(0, 256, (16, 40, 48, 3), np.uint8)
    first = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    pictures = [Image.fromarray(frame) for frame in frames]
    processor = hf.VideoSwinVideoProcessor()
    expected = processor(frames)["pixel_values"]
    for one in (first, first[None], list(frames), list(first), pictures, [pictures]):
        assert torch.equal(processor(one)["pixel_values"], expected)
    for two in ([first, first], [pictures, pictures], torch.stack([first, first])):
        assert torch.equal(processor(two)["pixel_values"], expected.repeat(2, 1, 1, 1, 1))


def test_models_report_the_shape_that_was_given():
    model = hf.VideoSwinModel(hf.VideoSwinConfig.from_bundle(vst.create_model("swin-nano").bundle))
    with pytest.raises(
        vst.ConfigError, match=r"shape \(1, 3, 16, 32, 32\), but must be \(batch, frames"
    ):
        model(torch.zeros(1, 3, 16, 32, 32))


def test_auto_image_processor_takes_frames_that_are_sampled(folder: Path, capfd: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    frames = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), np.uint8)
    images = [image.fromarray(frame) for frame in frames]
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    assert isinstance(processor, hf.VideoSwinImageProcessor)
    pixels = processor(images)["pixel_values"]
    of_videos = transformers.AutoVideoProcessor.from_pretrained(folder)
    assert torch.equal(pixels, of_videos(frames, do_sample_frames=False)["pixel_values"])
    assert processor([images, images])["pixel_values"].shape == (2, 6, 3, 32, 32)
    model = transformers.AutoModel.from_pretrained(folder)
    assert model(pixels).pooler_output.shape == (1, 24)
    assert "UNEXPECTED" not in capfd.readouterr().err  # the classifier is left out on purpose
