import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "@espalier/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDefinition } from "./load.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "espalier-load-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const yaml = `name: tiny
model: { family: gpt2, depth: 4, hiddenSize: 16, attentionHeads: 2 }
data:
  corpus: sotu
  tokenizer: { kind: bpe, vocabSize: 300 }
growth:
  schedule: { use: stages, depths: [1, 2, 4], at: [0, 0.2, 0.5] }
  sampler: lvps
training:
  steps: 20
`;

async function write(name: string, text: string): Promise<string> {
  const file = join(folder, name);
  await writeFile(file, text);
  return file;
}

async function refused(text: string, overrides: readonly string[] = []): Promise<UsageError> {
  const file = await write("bad.yaml", text);
  const error = await loadDefinition(file, overrides).then(
    () => expect.unreachable("it was accepted"),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(UsageError);
  return error as UsageError;
}

describe("loading a definition", () => {
  it("reads YAML and keeps its text", async () => {
    const loaded = await loadDefinition(await write("good.yaml", yaml));
    expect(loaded.definition.growth.sampler).toBe("lvps");
    expect(loaded.source.text).toBe(yaml);
    expect(loaded.locate(["training", "steps"])).toBe(`${join(folder, "good.yaml")}:10`);
    expect(loaded.locate(["training", "batchSize"])).toBe(`${join(folder, "good.yaml")}:9`);
  });

  it("names file, line, key and the nearest key where one is unknown", async () => {
    const error = await refused(yaml.replace("sampler:", "samplr:"));
    expect(error.message).toContain('unknown key "growth.samplr"; did you mean "sampler"?');
    expect(error.file).toMatch(/bad\.yaml:8$/);
    expect(error.key).toBe("growth.samplr");
  });

  it("names what is expected and what was given where a type is wrong", async () => {
    const error = await refused(yaml.replace("depth: 4", "depth: four"));
    expect(error.message).toContain('"model.depth" must be a number, but is the text "four"');
    expect(error.file).toMatch(/bad\.yaml:2$/);
    expect(await refused(yaml.replace("depth: 4", "depth: 2.5"))).toMatchObject({
      message: '"model.depth" must be a whole number, but is 2.5',
    });
    expect(await refused(yaml.replace("depth: 4", "depth: 0"))).toMatchObject({
      message: '"model.depth" must be at least 1, but is 0',
    });
    expect((await refused(yaml.replace("lvps", "[lvps]"))).message).toContain(
      '"growth.sampler" must be a strategy\'s name, or { use: name, …its options }, but is the list ["lvps"]',
    );
    expect((await refused(yaml.replace("kind: bpe", "kind: bbpe"))).message).toContain(
      '"data.tokenizer.kind" must be one of bpe, wordpiece, file, but is the text "bbpe"',
    );
  });

  it("lists every fault of a definition", async () => {
    const error = await refused(yaml.replace("depth: 4", "depth: x").replace("steps: 20", "stepz: 20"));
    expect(error.message).toContain('"model.depth"');
    expect(error.message).toContain('also: unknown key "training.stepz"');
  });

  it("says which key is missing", async () => {
    const error = await refused(yaml.replace("name: tiny\n", ""));
    expect(error.message).toBe(
      '"name" is missing; expected a name of letters, digits, dots, dashes and underscores',
    );
  });

  it("refuses a key that is given twice, and broken YAML, with the line", async () => {
    const twice = await refused(`${yaml}name: again\n`);
    expect(twice.message).toMatch(/unique/);
    expect(twice.file).toMatch(/bad\.yaml:11$/);
    expect((await refused("model: [1, 2\nname: x\n")).file).toMatch(/bad\.yaml:\d$/);
    expect((await refused("just text")).message).toContain("group of keys");
  });

  it("says that a file is missing, or is a folder", async () => {
    await expect(loadDefinition(join(folder, "none.yaml"))).rejects.toThrow(/there is no definition/);
    await expect(loadDefinition(folder)).rejects.toThrow(/is a folder/);
  });

  it("reads TypeScript through defineExperiment, with what it imports beside it", async () => {
    await write("shared.ts", "export const depth: number = 4;\n");
    const file = await write(
      "typed.ts",
      `import { defineExperiment } from "@espalier/experiments";
import { depth } from "./shared.js";
export default defineExperiment({
  name: "typed",
  model: { family: "gpt2", depth, hiddenSize: 16, attentionHeads: 2 },
  data: { corpus: "sotu", tokenizer: { kind: "bpe", vocabSize: 300 } },
  training: { steps: 20 },
});
`,
    );
    const { definition, source } = await loadDefinition(file, ["training.steps=7"]);
    expect(definition).toMatchObject({ name: "typed", model: { depth: 4 }, training: { steps: 7 } });
    expect(source.text).toContain("name: typed");
    const broken = await write("broken.ts", "export default {{");
    await expect(loadDefinition(broken)).rejects.toMatchObject({
      code: "ESPALIER_MODULE_FAILED",
      file: broken,
    });
    const empty = await write("empty.mjs", "export const a = 1;");
    await expect(loadDefinition(empty)).rejects.toThrow(/exports it by default/);
  });
});

describe("overrides", () => {
  const load = async (...overrides: string[]) =>
    (await loadDefinition(await write("base.yaml", yaml), overrides)).definition;

  it("read values as YAML, and text where text is wanted", async () => {
    expect((await load("training.batchSize=8")).training.batchSize).toBe(8);
    expect((await load("growth.schedule.depths=[2, 4]")).growth.schedule).toMatchObject({ depths: [2, 4] });
    expect((await load("growth.schedule.depths.0=2")).growth.schedule).toMatchObject({ depths: [2, 2, 4] });
    expect((await load("name=123")).name).toBe("123");
  });

  it("open a strategy that is named alone, and replace it", async () => {
    expect((await load("growth.sampler.end=0.5")).growth.sampler).toEqual({ use: "lvps", end: 0.5 });
    expect((await load("growth.sampler=uniform")).growth.sampler).toBe("uniform");
  });

  it("are told the keys of the kind that they choose", async () => {
    const message = await load("data.tokenizer.kind=file").catch((error: Error) => error.message);
    expect(message).toContain('unknown key "data.tokenizer.vocabSize"');
    expect(message).toContain("One of: kind, path");
    expect(message).not.toContain("did you mean");
  });

  it("are named where they are at fault, also at the top", async () => {
    await expect(load("trainig.steps=3")).rejects.toMatchObject({ file: "command line (trainig.steps=3)" });
  });

  it("put another budget in the place of the definition's", async () => {
    const { training } = await load("training.tokens=100000");
    expect(training).toMatchObject({ tokens: 100_000 });
    expect(training.steps).toBeUndefined();
  });

  it("are checked like the file, and named", async () => {
    expect(await refused(yaml, ["training.steps=many"])).toMatchObject({
      message: '"training.steps" must be a number, but is the text "many"',
      file: "command line (training.steps=many)",
      key: "training.steps",
    });
    expect((await refused(yaml, ["modle.depth=3"])).message).toContain('did you mean "model"?');
    expect((await refused(yaml, ["training.steps.x=3"])).message).toContain("not a group of keys");
    expect((await refused(yaml, ["growth.schedule.depths.9=3"])).message).toContain("places 0 to 2");
    for (const text of ["training.steps", "=3", "a..b=3"])
      expect((await refused(yaml, [text])).code).toBe("ESPALIER_OVERRIDE_SYNTAX");
  });
});
