import { execFileSync } from "node:child_process";
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type CheckpointContent,
  cleanCheckpoints,
  lastCompleteStep,
  listSteps,
  stepFolder,
  writeCheckpointFolder,
  writeStep,
} from "./checkpoint-folder.js";
import { writeTextDurably } from "./durable-files.js";
import { canMount } from "./mount.test-support.js";
import { openCheckpoint } from "./open-checkpoint.js";
import { storedName } from "./parameter-names.js";
import { writeSafetensors } from "./safetensors-writer.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "checkpoints-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function content(step: number, elements = 4): CheckpointContent {
  const data = new Float32Array(elements).fill(step);
  const tensor = (name: string) => ({ name, type: "F32" as const, shape: [elements], data: () => data });
  return {
    model: [tensor("transformer.wte.weight")],
    optimizer: [tensor("first_moment.transformer.wte.weight")],
    state: { step },
    config: { model_type: "gpt2" },
    tokenizerJson: "{}",
  };
}

async function newRun(name: string): Promise<string> {
  const run = join(folder, name);
  await mkdir(run);
  return run;
}

describe("a folder to write", () => {
  const files = ["config.json", "model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"];

  it("may be empty, and stays the one that it is: through a link, as the current folder", async () => {
    const [target, link] = [join(folder, "target"), join(folder, "link")];
    await mkdir(target);
    await symlink("target", link);
    const { ino } = await stat(target);
    await writeCheckpointFolder(link, content(1));
    expect((await readdir(target)).sort()).toEqual(files);
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
    expect((await stat(target)).ino).toBe(ino);
    await expect(writeCheckpointFolder(link, content(1))).rejects.toThrow(
      `${link} exists and is not empty: it has `,
    );
  });

  it("is as empty as before when writing fails", async () => {
    const path = join(folder, "empty");
    await mkdir(path);
    const { model, ...others } = content(1);
    const failing = [...model, { ...model[0]!, name: "broken", data: () => new Float32Array(1) }];
    await expect(writeCheckpointFolder(path, { ...others, model: failing })).rejects.toThrow(
      "needs 16 bytes",
    );
    expect(await readdir(path)).toEqual([]);
  });

  it("that would lie in none is told without the temporary name", async () => {
    await expect(writeTextDurably(join(folder, "nowhere", "map.json"), "{}")).rejects.toMatchObject({
      code: "ESPALIER_NO_FOLDER",
      message: `cannot write ${join(folder, "nowhere", "map.json")}: the folder that it would lie in does not exist`,
    });
  });
});

describe("step folders", () => {
  it("keep the newest, and open as what they are", async () => {
    const run = await newRun("keeps");
    for (const step of [5, 10, 15, 100]) await writeStep(run, step, content(step), 2);
    expect(await listSteps(run)).toEqual([15, 100]);
    expect((await readdir(stepFolder(run, 100))).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "optimizer.safetensors",
      "state.json",
      "tokenizer.json",
    ]);
    const opened = await openCheckpoint(run);
    expect(opened).toMatchObject({
      kind: "run",
      step: 100,
      state: { step: 100 },
      config: { model_type: "gpt2" },
    });
    expect(await opened.weights.readFloats("transformer.wte.weight")).toEqual(new Float32Array(4).fill(100));
    expect(opened.tokenizerFile).toBe(join(stepFolder(run, 100), "tokenizer.json"));
    await opened.close();
    const older = await openCheckpoint(stepFolder(run, 15));
    expect(older).toMatchObject({ kind: "step", step: 15 });
    await older.close();
  });

  it("always keep the last, whatever `keep` says", async () => {
    const run = await newRun("keeps-last");
    for (const step of [1, 2]) await writeStep(run, step, content(step), 0);
    expect(await listSteps(run)).toEqual([2]);
  });

  it("that are incomplete are passed over and cleaned up", async () => {
    const run = await newRun("incomplete");
    await writeStep(run, 5, content(5), 9);
    await writeStep(run, 10, content(10), 9);
    await writeStep(run, 15, content(15), 9);
    await truncate(join(stepFolder(run, 15), "model.safetensors"), 70);
    await rm(join(stepFolder(run, 10), "optimizer.safetensors"));
    await mkdir(join(run, "checkpoints", ".step-20.123.partial"));
    expect(await lastCompleteStep(run)).toBe(5);
    const opened = await openCheckpoint(run);
    expect(opened).toMatchObject({ step: 5, passedOver: [10, 15] });
    await opened.close();
    await cleanCheckpoints(run, 5);
    expect(await readdir(join(run, "checkpoints"))).toEqual(["step-5"]);
  });

  it("are whole or not there when writing one fails half-way, and older ones stay", async () => {
    const run = await newRun("fails");
    await writeStep(run, 5, content(5), 1);
    const broken = {
      ...content(10),
      optimizer: [{ ...content(10).model[0]!, data: () => new Float32Array(1) }],
    };
    await expect(writeStep(run, 10, broken, 1)).rejects.toThrow("needs 16 bytes, but has 4");
    expect(await readdir(join(run, "checkpoints"))).toEqual(["step-5"]);
  });
});

describe("a folder that cannot be written", () => {
  it("because a file stands in its place", async () => {
    const run = await newRun("in-the-way");
    await writeFile(join(run, "checkpoints"), "not a folder");
    await expect(writeStep(run, 1, content(1), 1)).rejects.toMatchObject({
      code: "ESPALIER_NOT_A_FOLDER",
      message: expect.stringContaining("a file stands where a folder is needed"),
    });
  });

  it.skipIf(process.getuid?.() === 0)("because of permissions", async () => {
    const run = await newRun("locked");
    await chmod(run, 0o500);
    await expect(writeStep(run, 1, content(1), 1)).rejects.toMatchObject({ code: "ESPALIER_NO_PERMISSION" });
    await chmod(run, 0o700);
  });

  it("because it is somebody else's and full", async () => {
    const path = join(folder, "precious");
    await mkdir(path);
    await writeFile(join(path, "thesis.tex"), "");
    await expect(writeCheckpointFolder(path, content(1))).rejects.toMatchObject({
      code: "ESPALIER_FOLDER_EXISTS",
      exitCode: 2,
    });
    expect(await readdir(path)).toEqual(["thesis.tex"]);
  });

  it.skipIf(!canMount(["-t", "tmpfs", "-o", "size=64k"]))(
    "because the disk is full or read-only, leaving the last checkpoint as it was",
    async () => {
      const disk = await newRun("disk");
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "none", disk]);
      try {
        await writeStep(disk, 1, content(1, 8_000), 1);
        await expect(writeStep(disk, 2, content(2, 40_000), 1)).rejects.toMatchObject({
          code: "ESPALIER_DISK_FULL",
          exitCode: 1,
          hint: expect.stringContaining("--resume"),
        });
        expect(await readdir(join(disk, "checkpoints"))).toEqual(["step-1"]);
        expect(await lastCompleteStep(disk)).toBe(1);
        execFileSync("mount", ["-o", "remount,ro", disk]);
        await expect(writeStep(disk, 2, content(2), 1)).rejects.toMatchObject({
          code: "ESPALIER_NO_PERMISSION",
        });
      } finally {
        execFileSync("umount", [disk]);
      }
    },
  );
});

describe("opening", () => {
  it("a Hugging Face folder: no moments, no state", async () => {
    const path = join(folder, "from-the-hub");
    await writeCheckpointFolder(path, { ...content(1), optimizer: null, state: null });
    const opened = await openCheckpoint(path);
    expect(opened).toMatchObject({ kind: "huggingface", step: null, optimizer: null, state: null });
    await opened.close();
  });

  it("finds parameters under older generations of names", async () => {
    const path = join(folder, "older.safetensors");
    const names = ["wte.weight", "bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.beta"];
    const data = () => new Float32Array(1);
    await writeSafetensors(
      path,
      names.map((name) => ({ name, type: "F32", shape: [1], data })),
    );
    const { openSafetensors } = await import("./safetensors-reader.js");
    const source = await openSafetensors(path);
    expect(storedName(source, "transformer.wte.weight")).toBe("wte.weight");
    expect(storedName(source, "bert.embeddings.LayerNorm.weight")).toBe("bert.embeddings.LayerNorm.gamma");
    expect(storedName(source, "bert.embeddings.LayerNorm.bias")).toBe("embeddings.LayerNorm.beta");
    expect(storedName(source, "transformer.wpe.weight")).toBeNull();
    await source.close();
  });

  it("says what was looked for where there is nothing", async () => {
    const looked = /looked for a run folder .* a step folder .* and a Hugging Face folder/;
    const nothing = join(folder, "nothing");
    await expect(openCheckpoint(nothing)).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringMatching(looked),
    });
    await mkdir(nothing);
    await expect(openCheckpoint(nothing)).rejects.toThrow("it has neither steps nor weights");
    await writeFile(join(nothing, "pytorch_model.bin"), "");
    await expect(openCheckpoint(nothing)).rejects.toThrow("pytorch_model.bin, a PyTorch pickle");
    await expect(openCheckpoint(join(nothing, "pytorch_model.bin"))).rejects.toMatchObject({
      hint: `give the folder that it lies in: ${nothing}`,
    });
    const early = await newRun("early");
    await writeFile(join(early, "definition.yaml"), "");
    await expect(openCheckpoint(early)).rejects.toThrow("a run folder that has no checkpoint yet");
  });

  it("names a damaged file", async () => {
    const path = join(folder, "damaged");
    await writeCheckpointFolder(path, content(1));
    await writeFile(join(path, "state.json"), "{");
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "ESPALIER_CHECKPOINT_DAMAGED",
      file: join(path, "state.json"),
    });
  });
});
