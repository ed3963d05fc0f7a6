import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { definePlugin, type Plugin, strategy } from "@espalier/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { PluginRegistry } from "./registry.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "espalier-plugins-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function write(path: string, text: string): Promise<string> {
  const file = join(folder, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
  return file;
}

function source(name: string, mapping: string, contract = 1): string {
  return `const options = { safeParse: (data) => ({ success: true, data }) };
export default { name: "${name}", contract: ${contract}, presets: [],
  strategies: [{ kind: "layerMapping", name: "${mapping}", description: "", options, needs: [], create: () => () => [0] }] };`;
}

/** An installed package with a plugin, and a project that depends on it. */
async function install(name: string, code: string): Promise<void> {
  await write(
    `node_modules/${name}/package.json`,
    JSON.stringify({ name, version: "2.3.4", type: "module", exports: "./index.js" }),
  );
  await write(`node_modules/${name}/index.js`, code);
}

function load(named: readonly string[] = [], builtIn: readonly Plugin[] = []): Promise<PluginRegistry> {
  return PluginRegistry.load({
    builtIn: builtIn.map((plugin) => ({ plugin, version: "1.0.0" })),
    folders: [join(folder, "experiments")],
    named: [place(named)],
  });
}

function place(sources: readonly string[]) {
  const file = join(folder, "experiments", "x.yaml");
  return { sources, origin: "definition", file, folder: dirname(file), key: "plugins" } as const;
}

function mappings(...names: string[]): Plugin {
  return definePlugin({
    name: "many",
    contract: 1,
    strategies: names.map((name) =>
      strategy({
        kind: "layerMapping",
        name,
        description: "",
        options: z.strictObject({}),
        needs: [],
        create: () => () => [0],
      }),
    ),
  });
}

describe("finding plugins", () => {
  it("takes the dependencies whose name says so, of every package.json above", async () => {
    await install("espalier-plugin-mirror", source("mirror", "mirror"));
    await install("unrelated", "throw new Error('is not to be loaded')");
    await write(
      "package.json",
      JSON.stringify({ dependencies: { "espalier-plugin-mirror": "*", unrelated: "*" } }),
    );
    const registry = await load();
    expect(registry.names("layerMapping")).toEqual(["mirror"]);
    expect(registry.plugins()[0]).toMatchObject({ version: "2.3.4", origin: "dependency" });
  });

  it("takes those that a definition names, by package or path, JavaScript or TypeScript", async () => {
    await install("my-mapping", source("my-mapping", "a"));
    await write("experiments/local.mjs", source("local", "b"));
    await write(
      "experiments/typed.ts",
      `const kind: string = "layerMapping"; ${source("typed", "c").replace('"layerMapping"', "kind")}`,
    );
    await write("elsewhere/index.mjs", source("folder", "d"));
    const registry = await load(["my-mapping", "./local.mjs", "./typed.ts", "../elsewhere"]);
    expect(registry.names("layerMapping")).toEqual(["a", "b", "c", "d"]);
  });

  it.each([
    ["is not there", undefined, /plugin at ".\/bad.mjs"/, 2],
    ["throws", "throw new Error('no such library')", /"\.\/bad\.mjs" failed to load: no such library/, 1],
    ["is no plugin", "export default 5", /"\.\/bad\.mjs" failed to load: its default export is no plugin/, 1],
    ["has another contract", source("bad", "x", 7), /"\.\/bad\.mjs" is written for contract 7/, 1],
    [
      "has a broken strategy",
      'export default { name: "bad", contract: 1, presets: [], strategies: [{ kind: "sampler" }] }',
      /"\.\/bad\.mjs" failed to load: each strategy needs/,
      1,
    ],
  ])("names a plugin that %s", async (_, code, message, exitCode) => {
    if (code !== undefined) await write("experiments/bad.mjs", code);
    await expect(load(["./bad.mjs"])).rejects.toMatchObject({
      message: expect.stringMatching(message),
      file: join(folder, "experiments", "x.yaml"),
      exitCode,
    });
  });

  it("names a package that is not installed, and how to get it", async () => {
    await expect(load(["espalier-plugin-nowhere"])).rejects.toMatchObject({
      message: 'the plugin "espalier-plugin-nowhere" is not installed, or not built',
      hint: "npm install espalier-plugin-nowhere",
    });
  });

  it("says how a path is written, where a package is asked for by that of a folder that is there", async () => {
    await write("experiments/mine/index.mjs", source("mine", "e"));
    await expect(load(["mine"])).rejects.toMatchObject({
      hint: "there is a folder of that name; a path begins with ./ or ../: write ./mine",
    });
  });

  it("leaves out what cannot be loaded where that is asked for, and tells of it", async () => {
    await write("experiments/local.mjs", source("local", "b"));
    await write("experiments/again.mjs", source("again", "b"));
    const told: string[] = [];
    const registry = await PluginRegistry.load({
      builtIn: [],
      folders: [],
      named: [
        place(["./local.mjs"]),
        { ...place(["./gone", "./again.mjs"]), leaveOut: ({ message }) => told.push(message) },
      ],
    });
    expect(registry.names("layerMapping")).toEqual(["b"]);
    expect(told).toEqual([
      expect.stringMatching(/^there is no plugin at "\.\/gone" \(.*experiments\/gone\)$/),
      'the plugins "./local.mjs" and "./again.mjs" both bring the layer mapping "b"',
    ]);
  });

  it("refuses two plugins that bring the same name, naming both", async () => {
    await write("experiments/one.mjs", source("one", "same"));
    await write("experiments/two.mjs", source("two", "same"));
    await expect(load(["./one.mjs", "./two.mjs"])).rejects.toThrow(
      'the plugins "./one.mjs" and "./two.mjs" both bring the layer mapping "same"',
    );
  });
});

describe("an unknown strategy", () => {
  it("is answered with all names where they are ten or fewer", async () => {
    const registry = await load([], [mappings("interpolation", "stacking")]);
    expect(() => registry.strategy("layerMapping", "stackign")).toThrow(
      'unknown layer mapping "stackign"; did you mean "stacking"? One of: interpolation, stacking',
    );
    expect(() => registry.strategy("sampler", "lvps")).toThrow(
      'unknown depth sampler "lvps"; there are none',
    );
  });

  it("is answered with the nearest names where there are more", async () => {
    const names = Array.from({ length: 12 }, (_, index) => `mapping-${index}`);
    const registry = await load([], [mappings(...names)]);
    expect(() => registry.strategy("layerMapping", "maping-11")).toThrow(
      /did you mean "mapping-11"\? The nearest: mapping-11, (mapping-\d+, ){3}mapping-\d+$/,
    );
  });
});
