"""The oracle against results worked out by hand, and against its own stated rules."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest


def sigma(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_two_steps_by_hand() -> None:
    # One channel, two steps, every pre-activation different. Columns z f o i.
    steps = [(0.5, 1.0, -0.25, 0.75), (-1.5, -2.0, 0.5, 0.1)]
    c_fo = c_ifo = 0.3
    for n, (z, f, o, i) in enumerate(steps):
        c_fo = sigma(f) * c_fo + (1 - sigma(f)) * math.tanh(z)
        c_ifo = sigma(f) * c_ifo + sigma(i) * math.tanh(z)
        for pooling, c, columns in (
            ("f", c_fo, [0, 1]),
            ("fo", c_fo, [0, 1, 2]),
            ("ifo", c_ifo, [0, 1, 2, 3]),
            ("if", c_ifo, [0, 1, 3]),
        ):
            gates = np.array(steps)[: n + 1, None, columns]
            h, c_T = oracle.pool(pooling, gates, [[0.3]])
            expected = sigma(o) * c if "o" in pooling else c
            assert h[n, 0, 0] == pytest.approx(expected, abs=1e-15)
            assert c_T[0, 0] == pytest.approx(c, abs=1e-15)


def test_sigmoid_in_the_tails() -> None:
    x = np.array([-700.0, -40.0, 0.0, 40.0, 700.0, -np.inf, np.inf])
    s = oracle.sigmoid(x)
    np.testing.assert_allclose(s[:2], np.exp(x[:2]), rtol=1e-15)
    np.testing.assert_array_equal(s[2:], [0.5, 1.0, 1.0, 0.0, 1.0])
    assert np.isnan(oracle.sigmoid(np.array(np.nan)))


def test_forget_gate_weights_the_previous_state() -> None:
    gates = np.array([[[5.0, np.inf]]])
    assert oracle.pool("f", gates, [[0.7]])[1] == 0.7
    gates = np.array([[[5.0, -np.inf]]])
    assert oracle.pool("f", gates, [[0.7]])[1] == math.tanh(5.0)


def test_zoneout_scale_scales_the_candidate() -> None:
    gates = np.array([[[0.4, -0.2]]])
    g = 0.75 * (1 - sigma(-0.2))
    expected = (1 - g) * 0.9 + g * math.tanh(0.4)
    _, c = oracle.pool("f", gates, [[0.9]], zoneout_scale=0.75)
    assert c[0, 0] == pytest.approx(expected, abs=1e-15)
    with pytest.raises(ValueError, match="zoneout_scale"):
        oracle.pool("if", np.zeros((1, 1, 3)), [[0.0]], zoneout_scale=0.5)


@pytest.mark.parametrize("direction", [1, -1])
def test_beyond_the_lengths_nothing_counts(direction: int) -> None:
    rng = np.random.default_rng(0)
    gates = rng.normal(size=(5, 3, 6))
    c0 = rng.normal(size=(3, 2))
    dirty = gates.copy()
    dirty[3:, 0] = np.nan
    dirty[:, 1] = np.nan
    h, c = oracle.pool("fo", dirty, c0, [3, 0, 5], direction=direction)
    assert np.all(h[3:, 0] == 0) and np.all(h[:, 1] == 0) and np.isfinite(h).all()
    np.testing.assert_array_equal(c[1], c0[1])
    short_h, short_c = oracle.pool("fo", gates[:3, :1], c0[:1], direction=direction)
    np.testing.assert_array_equal(h[:3, :1], short_h)
    np.testing.assert_array_equal(c[:1], short_c)


def test_reverse_is_forward_of_the_flipped_sequence() -> None:
    rng = np.random.default_rng(1)
    gates, c0 = rng.normal(size=(6, 2, 8)), rng.normal(size=(2, 2))
    h, c = oracle.pool("ifo", gates, c0, direction=-1)
    flipped_h, flipped_c = oracle.pool("ifo", gates[::-1], c0)
    np.testing.assert_array_equal(h, flipped_h[::-1])
    np.testing.assert_array_equal(c, flipped_c)


def test_layer_taps_oldest_first() -> None:
    # Identity candidate, f closed (-inf bias): y_t is the convolution itself.
    weight = np.array([[1.0, 10.0, 100.0], [0.0, 0.0, 0.0]])
    x = np.arange(1.0, 5.0).reshape(4, 1, 1)
    arguments = {
        "bias": [0.0, -np.inf],
        "window": 3,
        "pooling": "f",
        "activation": "identity",
        "x0": [[[7.0], [8.0]]],
    }
    y, _, x_T = oracle.layer(x, weight, **arguments)
    np.testing.assert_array_equal(y[:, 0, 0], [187, 218, 321, 432])
    np.testing.assert_array_equal(x_T[0, :, 0], [3, 4])
    y, _, x_T = oracle.layer(x, weight, direction=-1, lengths=[3], **arguments)
    np.testing.assert_array_equal(y[:, 0, 0], [123, 238, 387, 0])
    np.testing.assert_array_equal(x_T[0, :, 0], [2, 1])


def test_two_steps_of_an_sru_by_hand() -> None:
    # One channel, two steps; columns z f r x, and both gates see the state before the step.
    steps = [(0.5, 1.0, -0.25, 0.75), (-1.5, -2.0, 0.5, 0.1)]
    weight_c, bias = [[0.6], [-0.4]], [[0.2], [0.9]]
    c = 0.3
    for n, (z, x_f, x_r, x) in enumerate(steps):
        f, r = sigma(x_f + 0.6 * c + 0.2), sigma(x_r - 0.4 * c + 0.9)
        c = f * c + (1 - f) * z
        gates = np.array(steps)[: n + 1, None, :]
        skip = gates[..., 3:]
        for pooling, packed, given, out in (
            ("sru", gates, None, r * math.tanh(c) + (1 - r) * x),
            ("sru_input", gates[..., :3], skip, r * math.tanh(c) + (1 - r) * x),
            ("sru_noskip", gates[..., :3], None, r * math.tanh(c)),
        ):
            h, c_T = oracle.sru_pool(
                pooling, packed, [[0.3]], None, weight_c, bias, given, activation="tanh"
            )
            assert h[n, 0, 0] == pytest.approx(out, abs=1e-15)
            assert c_T[0, 0] == pytest.approx(c, abs=1e-15)


@pytest.mark.parametrize("pooling", oracle.SRU_PACKING)
def test_an_sru_walks_each_row_to_its_length_in_either_direction(pooling: str) -> None:
    rng = np.random.default_rng(2)
    gates = rng.normal(size=(5, 3, 2 * len(oracle.SRU_PACKING[pooling])))
    c0, weight_c, bias = rng.normal(size=(3, 2)), rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    skip = rng.normal(size=(5, 3, 2)) if pooling == "sru_input" else None

    def short(x: np.ndarray | None, reverse: bool) -> np.ndarray | None:
        return None if x is None else x[2::-1, :1] if reverse else x[:3, :1]

    for direction in (1, -1):
        dirty = gates.copy()
        dirty[3:, 0] = np.nan
        h, c = oracle.sru_pool(
            pooling, dirty, c0, [3, 0, 5], weight_c, bias, skip, direction=direction
        )
        assert np.all(h[3:, 0] == 0) and np.all(h[:, 1] == 0) and np.isfinite(h).all()
        np.testing.assert_array_equal(c[1], c0[1])
        reverse = direction == -1
        alone, end = oracle.sru_pool(
            pooling, short(gates, reverse), c0[:1], None, weight_c, bias, short(skip, reverse)
        )
        np.testing.assert_array_equal(h[:3, :1], alone[::direction])
        np.testing.assert_array_equal(c[:1], end)


def test_an_sru_is_given_its_skip_where_it_has_one() -> None:
    arguments = ([[0.0]], None, np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="skip"):
        oracle.sru_pool("sru_input", np.zeros((1, 1, 3)), *arguments)
    with pytest.raises(ValueError, match="skip"):
        oracle.sru_pool("sru", np.zeros((1, 1, 4)), *arguments, np.zeros((1, 1, 1)))


def test_lengths_outside_the_sequence_are_refused() -> None:
    for bad in ([5], [-1]):
        with pytest.raises(ValueError, match="lengths"):
            oracle.pool("f", np.zeros((4, 1, 2)), [[0.0]], bad)
