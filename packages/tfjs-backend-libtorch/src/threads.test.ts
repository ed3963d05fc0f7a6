import { beforeAll, describe, expect, it } from "vitest";
import { addonPathOfTests, useLibtorch } from "../test/libtorch.js";
import { openAddon } from "./addon.js";
import { libtorchInfo } from "./load.js";

describe("threads", () => {
  beforeAll(() => useLibtorch());

  it.skipIf(process.platform !== "linux")("the addon's own loops run on libtorch's threads", () => {
    const addon = openAddon(addonPathOfTests());
    for (const threads of [1, 3, 2]) {
      addon.setThreads(threads);
      expect(libtorchInfo()).toMatchObject({ threads, loopThreads: threads });
    }
  });
});
