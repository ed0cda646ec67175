"""Files of santi-pdp/quasi-rnn by the way in of all formats: what TensorFlow answered comes out."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qrnn_deploy.checkpoints import Given, load_checkpoint
from qrnn_deploy.errors import CheckpointError
from qrnn_deploy.exporter import export_checkpoint
from qrnn_deploy.runtime import Session

DATA = Path(__file__).parent / "data" / "quasi_rnn"
ROUTES = ("{}.npz", "{}/model.ckpt-1200.index", "{}/model.ckpt-1200")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("pooling", ["f", "fo", "ifo"])
def test_loaded(pooling: str, route: str) -> None:
    loaded = load_checkpoint(DATA / route.format(pooling))
    assert (loaded.format, loaded.config["pooling"]) == ("quasi-rnn", pooling)
    assert any("ReLU" in text for text in loaded.assumptions)
    answers = np.load(DATA / f"{pooling}_answers.npz")
    module: Any = loaded.module
    logits, _ = module(torch.from_numpy(answers["tokens"]))
    np.testing.assert_allclose(logits.detach().numpy(), answers["logits"], rtol=0, atol=1e-6)


def test_exported_with_a_vocabulary(tmp_path: Path) -> None:
    answers = np.load(DATA / "fo_answers.npz")
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("\n".join("abcdefg") + "\n")
    given = Given(vocabulary=str(vocabulary))
    report = export_checkpoint(DATA / "fo.npz", tmp_path / "m.onnx", given=given)
    assert report.metadata.vocabulary == list("abcdefg")
    assert not any("vocabulary is not" in text for text in report.metadata.assumptions)
    for kernel in ("require", "off"):
        session = Session(tmp_path / "m.onnx", kernel=kernel)  # type: ignore[arg-type]
        meta = session.metadata
        states = {s.input: np.zeros((2, *s.shape), s.dtype) for s in meta.states}
        got = session.run({"tokens": answers["tokens"]} | states)["logits"]
        np.testing.assert_allclose(got, answers["logits"], rtol=0, atol=1e-6)


def test_the_digest_covers_the_data(tmp_path: Path) -> None:
    """Another data file under the same index is another checkpoint."""
    shutil.copytree(DATA / "fo", tmp_path / "fo")
    index = tmp_path / "fo" / "model.ckpt-1200.index"
    data = tmp_path / "fo" / "model.ckpt-1200.data-00000-of-00001"
    first = load_checkpoint(index).sha256
    both = hashlib.sha256(index.read_bytes() + data.read_bytes()).hexdigest()
    assert first == both
    changed = bytearray(data.read_bytes())
    changed[3] ^= 1
    data.write_bytes(changed)
    assert load_checkpoint(index).sha256 != first


def test_files_of_the_old_format_are_told_the_way() -> None:
    with pytest.raises(CheckpointError, match=r"format V1.*docs/checkpoints-quasi-rnn\.md"):
        load_checkpoint(DATA / "f" / "v1.ckpt-1200")


def test_options_that_do_not_apply() -> None:
    with pytest.raises(CheckpointError, match="to which --zoneout does not apply"):
        load_checkpoint(DATA / "fo.npz", given=Given(zoneout=0.1))
