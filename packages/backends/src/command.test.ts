import { expect, test } from "vitest";
import { findProgram, lastLines, runCommand } from "./command.js";

const node = process.execPath;

test("gives code, output and lines", async () => {
  const lines: string[] = [];
  const script =
    'process.stdout.write("one\\ntw"); setTimeout(() => process.stdout.write("o\\nthree"), 20); process.exitCode = 3';
  const answer = await runCommand(node, ["-e", script], { onLine: (line) => lines.push(line) });
  expect(answer.code).toBe(3);
  expect(answer.stdout).toBe("one\ntwo\nthree");
  expect(lines).toEqual(["one", "two", "three"]);
});

test("a program that is not there is an answer, not an exception", async () => {
  const answer = await runCommand("/nowhere/program", []);
  expect(answer.code).toBeNull();
  expect(answer.stderr).toContain("ENOENT");
});

test("a program is ended after its time", async () => {
  const answer = await runCommand(node, ["-e", "setInterval(() => {}, 1000)"], { timeout: 300 });
  expect(answer.code).toBeNull();
  expect(answer.signal).toBe("SIGTERM");
});

test("finds programs on PATH only", () => {
  expect(findProgram("node", { PATH: node.slice(0, node.lastIndexOf("/")) })).toBe(node);
  expect(findProgram("node", { PATH: "/nowhere" })).toBeNull();
  expect(findProgram("node", {})).toBeNull();
});

test("keeps the last lines that say something", () => {
  expect(lastLines("a\n\nb  \n\n\nc\n", 2)).toBe("b\nc");
});
