"""The integer steps of docs/NATIVE.md, coordinate after coordinate, in Python's integers."""

import numpy as np

MASK = 2**64 - 1
CHUNK = 1024
EVERY = 8


def clip(value, bits):
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, value))


class Noise:
    """The generators of one output's vector, and the words of the block drawn last."""

    def __init__(self, words):
        """From (chunks, 16) words of 32 bits."""
        self.lanes = [
            [int(row[2 * i]) | int(row[2 * i + 1]) << 32 for i in range(8)] for row in words
        ]

    def draw(self, chunk):
        lanes = self.lanes[chunk]
        for i in range(8):
            lanes[i] ^= lanes[i] << 13 & MASK
            lanes[i] ^= lanes[i] >> 7
            lanes[i] ^= lanes[i] << 17 & MASK
        return [lanes[i // 4] >> 16 * (i % 4) & 0xFFFF for i in range(32)]

    def words(self):
        return [
            [half for s in lanes for half in (s & 0xFFFFFFFF, s >> 32)] for lanes in self.lanes
        ]


def noise8(words, j, fraction):
    g, i = divmod(j, 16)
    if i < 8:
        return 0xBCC7 * words[8 * g + i] % 2**fraction
    return words[8 * g + i - 8] >> (16 - fraction)


def noise16(words, j):
    g, i = divmod(j, 8)
    return words[2 * (4 * g + i)] if i < 4 else words[2 * (4 * g + i - 4) + 1]


def splitmix(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def difference(loss, p, u):
    """l'(a + u) - l'(a), by the predictions p at a; float64."""
    if loss == "squared":
        return 2 * u
    if loss == "logistic":
        return p * (1 - p) * np.expm1(u) / (1 + p * np.expm1(u))
    e = np.expm1(u - p @ u)
    return p * (e - p @ e) / (1 + p @ e)


class Halp:
    """Everything that a call is given, as numpy arrays; `run` changes it."""

    def __init__(self, bits, codes, noise, rows, h, *, seed, unit, gain, decay, shift, loss, p):
        self.bits, self.z = bits, codes.astype(int).tolist()
        self.noise = [Noise(words) for words in noise]
        self.rows, self.h = rows.astype(int).tolist(), h.astype(int).tolist()
        self.seed, self.unit, self.gain = int(seed[0]) | int(seed[1]) << 32, unit, gain
        self.decay, self.shift, self.loss, self.p = decay, shift, loss, p
        self.units = 2.0 ** (shift + 7) if bits == 8 else 2.0**16
        self.saturated, self.clipped, self.peak, self.steepest = 0, 0, 0, 0.0

    def run(self, index, first=0):
        for t, i in enumerate(index, start=first):
            self.step(t, int(i))

    def step(self, t, i):
        row, outputs = self.rows[i], len(self.z)
        sums = [sum(a * b for a, b in zip(z, row)) for z in self.z]
        u = np.array(sums, np.float64) * self.unit
        slopes = difference(self.loss, None if self.p is None else self.p[i], u)
        for k in range(outputs):
            self.update(k, t, row, self.coefficient(slopes[k] * self.gain, t * outputs + k + 1))
        if self.decay > 0:
            self.shrink(t)

    def coefficient(self, moves, number):
        self.steepest = max(self.steepest, abs(moves))
        word = splitmix((self.seed + number * 0x9E3779B97F4A7C15) & MASK) >> 32
        value = moves * self.units + ((word + 0.5) / 2**32 - 0.5)
        if -32767 < value < 32767:
            return int(np.rint(value))
        self.clipped += 1
        return -32767 if value < 0 else 32767

    def moved(self, product, h, words, j):
        """What is taken from the code of coordinate j of a block."""
        if self.bits == 8:
            high = clip(clip(product + h, 16) + noise8(words, j, self.shift), 16)
            return clip(high >> self.shift, 8)
        return clip(product + 2**self.shift * h + noise16(words, j) >> 16, 16)

    def update(self, k, t, row, c):
        counted = t % EVERY == 0
        for j, words, place in self.blocks(k):
            z, x = self.z[k][j], row[j]
            product = (256 * x * c + 2**14) >> 15 if self.bits == 8 else x * c
            wanted = z - self.moved(product, self.h[k][j], words, place)
            self.z[k][j] = clip(wanted, self.bits)
            if counted:
                self.saturated += wanted != self.z[k][j]
                self.peak = max(self.peak, abs(self.z[k][j]))

    def shrink(self, t):
        lump = 2.0 ** (5 - self.shift) if self.bits == 8 else 2.0**-5
        period = int(max(1, min(np.floor(lump / self.decay), 1024)))
        factor = int(np.rint(min(period * self.decay * self.units, 32767)))
        if (t + 1) % period:
            return
        for k in range(len(self.z)):
            for j, words, place in self.blocks(k):
                z = self.z[k][j]
                product = (256 * z * factor + 2**14) >> 15 if self.bits == 8 else z * factor
                move = self.moved(product, 0, words, place)
                self.z[k][j] = clip(z - move, self.bits)

    def blocks(self, k):
        """Coordinates with the noise of their block, which is drawn as it is come to."""
        size = 64 if self.bits == 8 else 32
        for first in range(0, len(self.z[k]), size):
            words = self.noise[k].draw(first // CHUNK)
            for place in range(size):
                yield first + place, words, place
