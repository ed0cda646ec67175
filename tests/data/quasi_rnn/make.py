"""Wrote the files in this folder, with TensorFlow 2.21 (CPU); nothing else needs TensorFlow.

    python tests/data/quasi_rnn/make.py

For each case a graph with the variables and the equations of santi-pdp/quasi-rnn:
CASE/model.ckpt-1200 as ``tf.train.Saver`` writes it, CASE.npz by the script in
docs/checkpoints-quasi-rnn.md, and CASE_answers.npz: ``tokens`` [B, T], ``before`` (the logits
before their ReLU) and ``logits``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saver_pb2 import SaverDef

HERE = Path(__file__).parent
SCRIPT = re.search(
    r"```python\n(.*?)```", (HERE.parents[2] / "docs/checkpoints-quasi-rnn.md").read_text(), re.S
)
v1 = tf.compat.v1
B, T = 2, 9
CASES: dict[str, dict[str, Any]] = {
    "f": {"pool": "f", "k": 1, "V": 6, "E": 3, "H": 4, "layers": 1},
    "fo": {"pool": "fo", "k": 2, "V": 7, "E": 4, "H": 5, "layers": 2},
    "ifo": {"pool": "ifo", "k": 3, "V": 6, "E": 3, "H": 4, "layers": 2, "bias": True, "adam": True},
}


def graph(
    pool: str, k: int, V: int, E: int, H: int, layers: int, bias: bool = False, adam: bool = False
) -> tuple[Any, Any, Any]:
    """Placeholder of the words, logits before and after the ReLU."""
    tokens = v1.placeholder(tf.int32, [B, T])

    def variable(name: str, *shape: int) -> Any:
        return v1.get_variable(name, shape, initializer=v1.random_normal_initializer(stddev=0.7))

    with v1.variable_scope("QRNN_LM"):
        x = tf.nn.embedding_lookup(variable("word_W", V, E), tokens)
        for number in range(layers):
            with v1.variable_scope(f"QRNN_layer{number}/convolutions"):
                padded = tf.pad(x, [[0, 0], [k - 1, 0], [0, 0]])
                gates = {}
                for gate in f"z{pool}":
                    width = int(x.shape[-1])
                    gates[gate] = tf.nn.conv1d(
                        padded, variable(f"W{gate}", k, width, H), stride=1, padding="VALID"
                    )
                    if bias:
                        gates[gate] += variable(f"b{gate}", H)
            c, outputs = tf.zeros([B, H]), []
            for t in range(T):
                z = tf.tanh(gates["z"][:, t])
                now = {gate: tf.sigmoid(gates[gate][:, t]) for gate in pool}
                c = now["f"] * c + (now["i"] if "i" in now else 1 - now["f"]) * z
                outputs.append(now["o"] * c if "o" in now else c)
            x = tf.stack(outputs, 1)
        with v1.variable_scope("output_softmax"):
            weights, biases = variable("weights", H, V), variable("biases", V)
        before = tf.reshape(tf.matmul(tf.reshape(x, [-1, H]), weights) + biases, [B, T, V])
    v1.Variable(0.735, trainable=False)  # upstream's learning rate, which has no name either
    if adam:
        step = v1.train.get_or_create_global_step()
        v1.train.AdamOptimizer().minimize(tf.reduce_mean(before), global_step=step)
    return tokens, before, tf.nn.relu(before)


def main() -> None:
    """Write every case."""
    assert SCRIPT is not None
    v1.disable_eager_execution()
    v1.disable_resource_variables()
    for name, case in CASES.items():
        v1.reset_default_graph()
        tf.random.set_seed(1)
        words, *outputs = graph(**case)
        tokens = np.random.default_rng(0).integers(0, case["V"], (B, T))
        checkpoint = HERE / name / "model.ckpt"
        checkpoint.parent.mkdir(exist_ok=True)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            before, logits = session.run(outputs, {words: tokens})
            v1.train.Saver().save(session, str(checkpoint), 1200, write_meta_graph=False)
            if name == "f":
                old = v1.train.Saver(write_version=SaverDef.V1)
                old.save(session, str(HERE / name / "v1.ckpt"), 1200, write_meta_graph=False)
        (HERE / name / "checkpoint").unlink()
        np.savez(HERE / f"{name}_answers.npz", tokens=tokens, before=before, logits=logits)
        arguments = [f"{checkpoint}-1200", str(HERE / f"{name}.npz")]
        subprocess.run([sys.executable, "-c", SCRIPT[1], *arguments], check=True)


if __name__ == "__main__":
    main()
