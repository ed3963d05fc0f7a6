import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { globSync } from "tinyglobby";
import { describe, expect, it } from "vitest";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const pages = globSync(["*.md", "docs/*.md", "packages/*/README.md", "plugins/*/README.md", "tools/*.md"], {
  cwd: root,
  absolute: true,
});

function read(page: string): string {
  return readFileSync(page, "utf8");
}

describe("code in the documentation", () => {
  const included = pages.flatMap((page) =>
    [...read(page).matchAll(/<!-- file: (\S+) -->\n```\w*\n([\s\S]*?)```/g)].map(
      ([, file, code]) => [relative(root, page), file!, code!] as const,
    ),
  );

  it("is there", () => {
    expect(included.length).toBeGreaterThanOrEqual(3);
  });

  it.each(included)("%s shows %s as it is", (_, file, code) => {
    expect(code).toBe(read(join(root, file)));
  });
});

describe("links in the documentation", () => {
  it.each(pages.map((page) => [relative(root, page)]))("%s", (page) => {
    const targets = [...read(join(root, page)).matchAll(/\]\(([^)\s]+)\)|src="([^"]+)"/g)]
      .map(([, link, source]) => (link ?? source)!.split("#")[0]!)
      .filter((target) => target !== "" && !/^[a-z]+:/.test(target));
    const missing = targets.filter((target) => !existsSync(resolve(root, dirname(page), target)));
    expect(missing).toEqual([]);
  });
});

describe("commands in the documentation", () => {
  // What trains or installs is left to the tests of the command line; what only looks is run as a reader would.
  const quick = /^npx espalier ((?:plan|plugin list|doctor)\b.*)$/;
  const commands = pages
    .flatMap((page) =>
      [...read(page).matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) => block!.split("\n")),
    )
    .map((line) => line.replace(/\s+#.*$/, "").match(quick)?.[1])
    .filter((command) => command !== undefined);

  it.each([...new Set(commands)].map((command) => [command]))("npx espalier %s", (command) => {
    const args = command.split(/\s+/);
    const done = spawnSync(process.execPath, [join(root, "packages/cli/bin/espalier.js"), ...args], {
      cwd: root,
      encoding: "utf8",
    });
    // A stack trace; `stages` has an option `at`, which is listed further in.
    expect(done.stderr + done.stdout).not.toMatch(/^ {4}at /m);
    expect(done.status, done.stderr).toBe(0);
  });
});

describe("shipped definitions", () => {
  const definitions = globSync("experiments/**/*.yaml", { cwd: root });

  it.each(definitions.map((file) => [file]))("%s can be planned", (file) => {
    const done = spawnSync(
      process.execPath,
      [join(root, "packages/cli/bin/espalier.js"), "plan", file, "--json"],
      { cwd: root, encoding: "utf8" },
    );
    expect(done.status, done.stderr).toBe(0);
    const plan = JSON.parse(done.stdout) as {
      stages: { depth: number; firstStep: number; distribution: Record<string, number> }[];
      totalFlops: number;
      fullDepthFlops: number;
      predictedSaving: number;
    };
    expect(plan.stages[0]!.firstStep).toBe(0);
    for (const stage of plan.stages)
      expect(Object.values(stage.distribution).reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9);
    expect(plan.totalFlops).toBeLessThanOrEqual(plan.fullDepthFlops * (1 + 1e-12));
    expect(plan.predictedSaving).toBeCloseTo(1 - plan.totalFlops / plan.fullDepthFlops, 9);
  });
});
