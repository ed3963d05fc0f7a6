import { existsSync } from "node:fs";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { expect, it } from "vitest";
import { addonFolder, torchOfTests } from "../test/libtorch.js";
import { buildAddon } from "./build-addon.js";
import { libtorchInfo, loadLibtorch } from "./load.js";
import { registerLibtorch } from "./register.js";

it("refuses what the environment cannot mean, before anything is loaded", () => {
  const { torchRoot } = torchOfTests();
  for (const threads of ["0", "-1", "1.5", "all"]) {
    expect(() => registerLibtorch({ ESPALIER_TORCH: torchRoot, ESPALIER_THREADS: threads })).toThrow(
      `ESPALIER_THREADS: expected a whole number of at least 1, got '${threads}'`,
    );
  }
  expect(() => registerLibtorch({ ESPALIER_TORCH: "/no/such/torch" })).toThrow(
    /PyTorch was not found: .*\/no\/such\/torch.*ESPALIER_TORCH names a Python/,
  );
  const notAFolder = join(torchRoot, "version.py", "addon");
  expect(existsSync(notAFolder)).toBe(false);
  expect(() => registerLibtorch({ ESPALIER_TORCH: torchRoot, ESPALIER_ADDON_DIR: notAFolder })).toThrow(
    /cannot be kept in .*name another folder in ESPALIER_ADDON_DIR/,
  );
  expect(libtorchInfo()).toBeNull();
});

it("registers and chooses the backend as the main entry is imported, by the environment", async () => {
  const torch = torchOfTests();
  const { path } = await buildAddon({ ...torch, outDir: addonFolder });
  expect(libtorchInfo()).toBeNull();
  process.env.ESPALIER_TORCH = torch.torchRoot;
  process.env.ESPALIER_ADDON_DIR = addonFolder;
  process.env.ESPALIER_THREADS = "1";
  await import("./index.js");
  expect(tf.getBackend()).toBe("libtorch");
  expect(libtorchInfo()).toMatchObject({
    torchVersion: torch.torchVersion.split("+")[0],
    device: "cpu",
    threads: 1,
  });

  loadLibtorch({ addonPath: path, threads: 2 });
  expect(libtorchInfo()?.threads).toBe(2);
  expect(() => loadLibtorch({ addonPath: path, device: "cuda" })).toThrow(/loaded already/);
  expect(() => loadLibtorch({ addonPath: path, threads: 0 })).toThrow(/at least 1 thread/);
});
