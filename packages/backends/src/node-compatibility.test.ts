import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { missingNodeFunctions, restoreNodeFunctions } from "./node-compatibility.js";

const util = createRequire(import.meta.url)("node:util") as Record<string, unknown>;

test("puts back what Node removed, as Node had it", () => {
  delete util.isNullOrUndefined;
  delete util.isArray;
  expect(missingNodeFunctions()).toEqual(["util.isNullOrUndefined", "util.isArray"]);
  expect(restoreNodeFunctions()).toEqual(["util.isNullOrUndefined", "util.isArray"]);
  const restored = util as { isNullOrUndefined(value: unknown): boolean; isArray(value: unknown): boolean };
  expect([null, undefined, 0, "", []].map((value) => restored.isNullOrUndefined(value))).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
  expect([[], new Float32Array(1), null].map((value) => restored.isArray(value))).toEqual([
    true,
    false,
    false,
  ]);
  // doctor still says what was put back
  expect(missingNodeFunctions()).toEqual(["util.isNullOrUndefined", "util.isArray"]);
});
