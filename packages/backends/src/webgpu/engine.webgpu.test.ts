import { EspalierError } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { expect, test } from "vitest";
import { loadBackend } from "../load-backend.js";
import { reportBackends } from "../report-backends.js";

/** The standard's names that are used here. */
interface Device {
  createBuffer(descriptor: { size: number; usage: number }): unknown;
  readonly queue: { onSubmittedWorkDone(): Promise<void> };
}

const said: string[] = [];
const engine = await loadBackend({ backend: "webgpu", log: (line) => said.push(line) });

/** Values of a tensor; this engine reads asynchronously only. */
const read = async (tensor: tf.Tensor) => [...(await tensor.data())];

test("it tells what it computes on", async () => {
  expect(tf.getBackend()).toBe("webgpu");
  expect(engine).toMatchObject({ name: "webgpu", device: expect.stringMatching(/^(cpu|gpu)$/), threads: 1 });
  const report = (await reportBackends()).find(({ name }) => name === "webgpu");
  expect(report).toMatchObject({ usable: true, version: engine.version });
  expect(report?.why).toContain(engine.device === "gpu" ? "hardware" : "software");
  expect(said).toHaveLength(1);
});

test("WebGPU is not left behind where programs look for a browser's", () => {
  expect((globalThis as unknown as { navigator?: { gpu?: unknown } }).navigator?.gpu).toBeUndefined();
});

test("rows are added by segment in their order; what belongs to none is left out", async () => {
  const before = tf.memory().numTensors;
  const sums = tf.tidy(() =>
    tf.unsortedSegmentSum(
      tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5, 2]),
      tf.tensor1d([3, 0, 3, -1, 4], "int32"),
      4,
    ),
  );
  expect(await read(sums)).toEqual([3, 4, 0, 0, 0, 0, 6, 8]);
  const cubes = tf.tidy(() =>
    tf.unsortedSegmentSum(
      tf.tensor3d([1, 2, 3, 4, 5, 6, 7, 16_777_217], [2, 2, 2], "int32"),
      tf.tensor1d([1, 1], "int32"),
      2,
    ),
  );
  expect([cubes.dtype, await read(cubes)]).toEqual(["int32", [0, 0, 0, 0, 6, 8, 10, 16_777_221]]);
  const none = tf.tidy(() => tf.unsortedSegmentSum(tf.zeros([0, 3]), tf.tensor1d([], "int32"), 2));
  expect(await read(none)).toEqual([0, 0, 0, 0, 0, 0]);
  tf.dispose([sums, cubes, none]);
  expect(tf.memory().numTensors).toBe(before);
});

test("a long inner axis gives the same bits each time, near the exact product", async () => {
  const [rows, inner] = [16, 4096];
  const values = Array.from({ length: rows * inner }, (_, index) => Math.sin(index));
  const x = tf.tensor2d(values, [rows, inner]);
  const products = await Promise.all(
    Array.from({ length: 3 }, () => {
      const product = tf.matMul(x, x, false, true);
      return read(product).finally(() => product.dispose());
    }),
  );
  x.dispose();
  const [first, ...others] = products;
  for (const other of others) expect(other).toEqual(first);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < rows; column++) {
      let exact = 0;
      for (let at = 0; at < inner; at++)
        exact += Math.fround(values[row * inner + at]!) * Math.fround(values[column * inner + at]!);
      expect(Math.abs(first![row * rows + column]! - exact)).toBeLessThan(1e-2); // added one by one, of sums up to 2048
    }
});

test("an error that WebGPU tells afterwards fails the next reading", async () => {
  const { device } = tf.backend() as unknown as { device: Device };
  const x = tf.tensor1d([1, 2]);
  device.createBuffer({ size: 4, usage: 0 }); // no use at all: invalid
  await device.queue.onSubmittedWorkDone();
  const error: unknown = await x
    .square()
    .data()
    .catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(EspalierError);
  expect(error).toMatchObject({ code: "ESPALIER_BACKENDS_WEBGPU" });
});
