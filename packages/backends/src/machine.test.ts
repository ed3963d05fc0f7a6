import { expect, test } from "vitest";
import { machineFacts, parseGpus } from "./machine.js";

test("reads the driver's table", () => {
  expect(parseGpus("0, NVIDIA H200, 143771, 570.86.15, 9.0\n1, NVIDIA H200, 143771, 570.86.15\n")).toEqual([
    { index: 0, name: "NVIDIA H200", memory: 143771, driver: "570.86.15", computeCapability: 9 },
    { index: 1, name: "NVIDIA H200", memory: 143771, driver: "570.86.15", computeCapability: null },
  ]);
  expect(parseGpus("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")).toEqual(
    [],
  );
});

test("knows this machine", async () => {
  const facts = await machineFacts();
  expect(facts.node).toBe(process.versions.node);
  expect(facts.cores).toBeGreaterThan(0);
  expect(facts.memory).toBeGreaterThan(facts.freeMemory);
  const isNewNode = Number(process.versions.node.split(".")[0]) >= 23;
  expect(facts.nodePolyfills.length > 0).toBe(isNewNode);
});
