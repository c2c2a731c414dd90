"""keystep.noise against Philox 4x32-10 (Salmon et al., SC 2011) and Box-Muller written in numpy."""

import numpy as np
import pytest

import keystep

MASK = np.uint64(0xFFFFFFFF)
KEYS = [
    {"seed": 0},
    {"seed": 1, "episode": 2, "chunk": 3, "step": 4},
    {"seed": 2**64 - 1, "episode": 2**32 - 1, "chunk": 2**32 - 1, "step": 2**32 - 1},
    {"seed": 0x299F31D0A4093822, "episode": 0x03707344, "chunk": 0x13198A2E, "step": 0x85A308D3},
]


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds on counters (n, 4), 32-bit words held in uint64."""
    c0, c1, c2, c3 = counter.astype(np.uint64).T
    k0, k1 = key
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (b >> np.uint64(32)) ^ c1 ^ np.uint64(k0), b & MASK
        c2, c3 = (a >> np.uint64(32)) ^ c3 ^ np.uint64(k1), a & MASK
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=1)


def reference(count: int, seed: int, episode: int = 0, chunk: int = 0, step: int = 0) -> np.ndarray:
    blocks = np.arange(-(-count // 4))
    counter = np.stack([blocks, *(np.full_like(blocks, part) for part in (step, chunk, episode))], axis=1)
    words = philox(counter, (seed % 2**32, seed >> 32)).reshape(-1, 2).astype(np.float64)
    radius = np.sqrt(-2 * np.log((words[:, 0] + 1) / 2**32))
    angle = 2 * np.pi * words[:, 1] / 2**32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]


def test_reference_gives_the_known_answer_of_random123() -> None:
    counter = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]])
    words = philox(counter, (0xA4093822, 0x299F31D0))
    assert [hex(word) for word in words[0]] == ["0xd16cfe09", "0x94fdcceb", "0x5001e420", "0x24126ea1"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 56, 4097])
def test_noise_equals_the_reference(key: dict[str, int], count: int) -> None:
    np.testing.assert_allclose(keystep.noise((count,), **key), reference(count, **key), rtol=1e-6, atol=1e-6)


def test_shape_and_dtype() -> None:
    noise = keystep.noise((2, 8, 7), seed=5)
    assert noise.shape == (2, 8, 7) and noise.dtype == np.float32 and noise.flags.c_contiguous
    np.testing.assert_array_equal(noise.reshape(-1), keystep.noise((112,), seed=5))


def test_a_longer_draw_begins_with_the_shorter() -> None:
    longest = keystep.noise((101,), seed=3)
    for count in range(101):
        np.testing.assert_array_equal(keystep.noise((count,), seed=3), longest[:count])


def test_every_part_of_the_key_gives_another_stream() -> None:
    keys = [{"seed": 9}, {"seed": 9 + 2**32}]
    keys += [{"seed": 9, part: 1} for part in ("episode", "chunk", "step")]
    draws = np.stack([keystep.noise((10_000,), **key) for key in keys])
    correlation = np.corrcoef(draws) - np.eye(len(keys))
    assert np.abs(correlation).max() < 5 / np.sqrt(10_000)
    assert np.abs(draws.mean(axis=1)).max() < 5 / np.sqrt(10_000)
    assert np.abs(draws.std(axis=1) - 1).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("bad", [{"seed": -1}, {"seed": 2**64}, {"seed": 0, "step": 2**32}])
def test_keys_out_of_range_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises((TypeError, ValueError)):
        keystep.noise((1,), **bad)
