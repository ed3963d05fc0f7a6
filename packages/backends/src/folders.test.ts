import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { addonFolder, projectFolder, projectOf } from "./folders.js";

afterEach(() => vi.unstubAllEnvs());

test("an installed package belongs to the project around node_modules", () => {
  const project = path.join(path.sep, "home", "me", "project");
  const nested = path.join(project, "node_modules", "a", "node_modules", "@espalier", "backends", "dist");
  expect(projectOf(nested)).toBe(project);
});

test("in the workspace it is the workspace's root", () => {
  expect(projectFolder()).toBe(path.resolve(import.meta.dirname, "../../.."));
});

test("ESPALIER_HOME names another folder", () => {
  vi.stubEnv("ESPALIER_HOME", "/somewhere/else");
  expect(addonFolder()).toBe(path.resolve("/somewhere/else/.espalier/addon"));
});
