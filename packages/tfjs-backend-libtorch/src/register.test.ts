import * as tf from "@tensorflow/tfjs";
import { expect, it } from "vitest";
import { addonFolder, torchOfTests } from "../test/libtorch.js";
import { buildAddon } from "./build-addon.js";
import { libtorchInfo, loadLibtorch } from "./load.js";

it("registers and chooses the backend as it is imported, by the environment", async () => {
  const torch = torchOfTests();
  const { path } = await buildAddon({ ...torch, outDir: addonFolder });
  expect(libtorchInfo()).toBeNull();
  process.env.ESPALIER_TORCH = torch.torchRoot;
  process.env.ESPALIER_ADDON_DIR = addonFolder;
  process.env.ESPALIER_THREADS = "1";
  await import("./register.js");
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
