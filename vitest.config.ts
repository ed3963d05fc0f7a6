import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/**
 * `unit` needs no engine beyond the one that a test names itself. `*.numerics.test.ts` run once per engine, each in
 * processes of its own: libtorch and TensorFlow are never loaded into the same process. `*.webgpu.test.ts` need Dawn and
 * a driver (`espalier setup webgpu`), and read asynchronously, as WebGPU alone of all engines demands.
 */
const source = {
  resolve: { conditions: ["espalier-source"] },
  ssr: { resolve: { conditions: ["espalier-source", "node", "import", "default"] } },
};
// Test files run side by side: a thread each, or the engines' threads would wait for one another.
const oneThread = { ESPALIER_THREADS: "1" };
const everywhere = ["**/node_modules/**", "**/dist/**"];

function numerics(backend: string) {
  return {
    ...source,
    test: {
      name: `numerics-${backend}`,
      include: ["packages/*/src/**/*.numerics.test.ts", "plugins/*/src/**/*.numerics.test.ts"],
      exclude: everywhere,
      env: { ...oneThread, ESPALIER_BACKEND: backend },
      pool: "forks" as const,
      testTimeout: 120_000,
      hookTimeout: 120_000,
    },
  };
}

export default defineConfig({
  test: {
    // Many tests wait for a server or a process: on two cores, vitest's own choice of one at a time leaves both idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        ...source,
        test: {
          name: "unit",
          include: [
            "packages/*/src/**/*.test.ts",
            "plugins/*/src/**/*.test.ts",
            "docs/**/*.test.ts",
            "benchmarks/*.test.mjs",
          ],
          exclude: [...everywhere, "**/*.numerics.test.ts", "**/*.webgpu.test.ts"],
          env: oneThread,
          pool: "forks" as const,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      numerics("libtorch"),
      numerics("tensorflow"),
      numerics("wasm"),
      {
        ...source,
        test: {
          name: "webgpu",
          include: ["packages/*/src/**/*.webgpu.test.ts"],
          exclude: everywhere,
          env: { ...oneThread, ESPALIER_BACKEND: "webgpu" },
          pool: "forks" as const,
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
