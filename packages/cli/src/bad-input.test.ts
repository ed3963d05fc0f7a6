import { spawnSync } from "node:child_process";
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { corpus, espalier, makeFolder, tiny } from "./testing/espalier.js";

// Every case goes through the real command in a process of its own: exit code, message, and nothing left behind.
let folder: Awaited<ReturnType<typeof makeFolder>>;
beforeAll(async () => {
  folder = await makeFolder();
  await writeFile(join(folder.path, "empty.txt"), "");
  await writeFile(join(folder.path, "two-budgets.yaml"), tiny.replace("steps: 12", "steps: 12, flops: 1e9"));
  await writeFile(join(folder.path, "twice.yaml"), `${tiny}seed: 1\nseed: 2\n`);
  await writeFile(join(folder.path, "typo.yaml"), tiny.replace("preset:", "perset:"));
  await writeFile(join(folder.path, "contract.mjs"), "export default { name: 'x', contract: 9 };");
  await writeFile(join(folder.path, "failing.mjs"), "import 'no-such-package';");
});
afterAll(() => folder.remove());

describe("bad input to run", () => {
  it.concurrent.each<[what: string, args: string[], expected: (string | RegExp)[]]>([
    ["a definition that is not there", ["none.yaml"], ['there is no definition "none.yaml"']],
    ["a wrong key", ["typo.yaml"], ['"growth.perset"', 'did you mean "preset"', /file: typo\.yaml:8/]],
    ["a key that is given twice", ["twice.yaml"], [/file: twice\.yaml:15/, "unique"]],
    ["two budgets", ["two-budgets.yaml"], ["steps and flops", "two-budgets.yaml:10"]],
    ["a wrong type", ["tiny.yaml", "model.depth=four"], ['"model.depth" must be a number', '"four"']],
    [
      "an unknown strategy",
      ["tiny.yaml", "growth.sampler=lvsp"],
      [
        'unknown depth sampler "lvsp"; did you mean "lvps"?',
        "fixed, lvps, sigmoid, target, two-stage, uniform, unique",
      ],
    ],
    [
      "an unknown width operator",
      ["tiny.yaml", "growth.expander={ use: interpolation, width: fpii }"],
      ['unknown width operator "fpii"; did you mean "fpi"'],
    ],
    [
      "growth from a source that is not there",
      ["tiny.yaml", "growth.preset=bert2bert", "growth.schedule=from-source"],
      ["needs a trained model to grow from", "key:  start\n"],
    ],
    [
      "a nested definition's wrong key",
      [
        "tiny.yaml",
        "start={ model: { family: gpt2, depth: 2, hiddenSize: 8, attentionHeads: 2, dept: 2 }, training: { steps: 2 } }",
      ],
      ['unknown key "model.dept"', "key:  start.model.dept\n"],
    ],
    [
      "a nested definition's wrong shape",
      [
        "tiny.yaml",
        "start={ model: { family: gpt2, depth: 2, hiddenSize: 8, attentionHeads: 3 }, training: { steps: 2 } }",
      ],
      ["(8) is not divisible", "key:  start.model.hiddenSize\n"],
    ],
    [
      "growth in width by an expander of depth",
      ["tiny.yaml", "growth.schedule={ use: stages, depths: [1, 4], hiddenSizes: [8, 16], at: [0, 0.5] }"],
      ["grows depth only, but hiddenSize changes from 8 to 16", "key:  model.hiddenSize\n"],
    ],
    [
      "an unknown preset",
      ["tiny.yaml", "growth.preset=apolo"],
      ["apollo, bert2bert, bert2bert-fpi, direct-copy, scratch, stackbert"],
    ],
    ["an unknown family", ["tiny.yaml", "model.family=gpt3"], ["bert, gpt2", "model.family"]],
    [
      "a strategy's unknown option",
      ["tiny.yaml", "growth.sampler.ned=0.5"],
      ['"growth.sampler.ned"; did you mean "end"'],
    ],
    [
      "a strategy's wrong option",
      ["tiny.yaml", "growth.sampler.end=x"],
      ['"growth.sampler.end" must be a number'],
    ],
    [
      "heads that do not divide",
      ["tiny.yaml", "model.attentionHeads=3"],
      ["hiddenSize (16) is not divisible", "1, 2, 4, 8, 16"],
    ],
    [
      "depths that do not ascend",
      ["tiny.yaml", "growth.schedule.depths=[2,1,4]"],
      ["growth.schedule.depths must ascend"],
    ],
    [
      "a stage with no steps",
      ["tiny.yaml", "growth.schedule.at=[0,0.01,0.5]"],
      ["growth.schedule.at leaves no steps for stage 0"],
    ],
    [
      "a final depth that is not the target's",
      ["tiny.yaml", "growth.schedule.depths=[1,2,3]"],
      ["model.depth = 4", "ends at 3"],
    ],
    ["stages without shares", ["tiny.yaml", "growth.schedule.at=[0]"], ["growth.schedule"]],
    [
      "an objective that does not fit",
      ["tiny.yaml", "objective=masked-lm"],
      ["gpt2 is causal", "key:  objective"],
    ],
    [
      "a precision that the engine has not",
      ["tiny.yaml", "training.precision=bf16", "--backend", "wasm"],
      ["wasm computes in fp32 only", /key: +training\.precision/, "--backend libtorch"],
    ],
    [
      "a sequence longer than the positions",
      ["tiny.yaml", "model.maxPositions=8"],
      ['"data.sequenceLength" is 16', "8 positions"],
    ],
    [
      "fewer tokens than a step takes",
      ["tiny.yaml", "training.tokens=10"],
      ["one step takes 64 tokens", "training.tokens"],
    ],
    [
      "an unknown backend",
      ["tiny.yaml", "--backend", "libtroch"],
      ['did you mean "libtorch"', "auto, libtorch, tensorflow, wasm, webgpu"],
    ],
    [
      "a tracking address that is no server's",
      ["tiny.yaml", "tracking.uri=mlruns"],
      ["http(s)://", "tracking.uri"],
    ],
    [
      "a start that is not there",
      ["tiny.yaml", "start=nowhere"],
      ["nowhere is no checkpoint", "key:  start"],
    ],
    [
      "a missing corpus",
      ["tiny.yaml", "data.corpus.files=none.txt"],
      ['"none.txt"', "does not exist", "data.corpus.files"],
    ],
    ["an empty corpus", ["tiny.yaml", "data.corpus.files=empty.txt"], [/empty|no text/, "data.corpus"]],
    [
      "a vocabulary that the text cannot give",
      ["tiny.yaml", "data.tokenizer.vocabSize=9000"],
      ["9000", "data.tokenizer.vocabSize"],
    ],
    [
      "a missing tokenizer",
      ["tiny.yaml", "data.tokenizer={kind: file, path: none.json}"],
      ["none.json", "data.tokenizer.path"],
    ],
    [
      "a plugin of another contract",
      ["tiny.yaml", "plugins=[./contract.mjs]"],
      ["./contract.mjs", "contract 9"],
    ],
    [
      "a plugin that fails to load",
      ["tiny.yaml", "plugins=[./failing.mjs]"],
      ['"./failing.mjs" failed to load', "no-such-package"],
    ],
    [
      "something that is no override",
      ["tiny.yaml", "training.steps"],
      ['"training.steps" is not of the form key=value'],
    ],
  ])("%s", async (what, args, expected) => {
    const { code, stdout, stderr } = await espalier(["run", ...args, "--out", "out", "--json"], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(what.startsWith("a plugin") ? 1 : 2);
    for (const part of expected)
      if (typeof part === "string") expect(stderr).toContain(part);
      else expect(stderr).toMatch(part);
    expect(stderr, "a user's mistake has no stack").not.toMatch(/^\s+at /m);
    expect(stdout).toBe("");
    expect(await exists(join(folder.path, "out"))).toBe(false);
  });
});

describe("the folder of a run", () => {
  it("is not taken where it is there already, nor resumed where it is no run", async () => {
    const out = join(folder.path, "taken");
    await mkdir(out);
    await writeFile(join(out, "notes.txt"), "mine");
    const fresh = await espalier(["run", "tiny.yaml", "--out", "taken"], { cwd: folder.path });
    expect(fresh.code).toBe(2);
    expect(fresh.stderr).toContain('the folder "taken" is there already');
    const resumed = await espalier(["run", "tiny.yaml", "--out", "taken", "--resume"], { cwd: folder.path });
    expect(resumed.code).toBe(2);
    expect(resumed.stderr).toContain("no run folder");
    expect(await readdir(out)).toEqual(["notes.txt"]);
    expect(await readFile(join(out, "notes.txt"), "utf8")).toBe("mine");
  });

  it("must be writable", async ({ skip }) => {
    const closed = join(folder.path, "closed");
    await mkdir(closed);
    await chmod(closed, 0o555);
    // Permissions do not bind root, so root hands the command to another user.
    const isRoot = process.getuid?.() === 0;
    await chmod(folder.path, 0o755);
    const { code, stderr } = await espalier(["run", "tiny.yaml", "--out", "closed/run"], {
      cwd: folder.path,
      ...(isRoot ? { uid: 65_534 } : {}),
    });
    skip(isRoot && /EACCES.*espalier\.js/.test(stderr), "another user may not read this working copy");
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/cannot write to ".*closed": no permission/);
    expect(stderr).toContain("hint:");
    expect(await readdir(closed)).toEqual([]);
  });

  it("may not be a file", async () => {
    const { code, stderr } = await espalier(["run", "tiny.yaml", "--out", "corpus.txt"], {
      cwd: folder.path,
    });
    expect(code).toBe(2);
    expect(stderr).toContain("a file stands where a folder is needed");
    expect(await readFile(join(folder.path, "corpus.txt"), "utf8")).toBe(corpus());
  });
});

describe("a disk without room", () => {
  // The definition's checkpoint has about 200 kB.
  it("ends the run with a message, and no half-written checkpoint (a limit on file sizes)", async () => {
    const { code, stderr } = await espalier(["run", "tiny.yaml", "--out", "limited"], {
      cwd: folder.path,
      shell: 'ulimit -f 24 && exec "$@"',
      env: { ESPALIER_CACHE: await warmCache() },
    });
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/error: .*model\.safetensors/);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(await readdir(join(folder.path, "limited", "checkpoints"))).toEqual([]);
  });

  it("ends the run with a message, and no half-written checkpoint (a full file system)", async ({ skip }) => {
    const mountable =
      spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]).status === 0;
    skip(!mountable, "this user may not mount a small file system");
    const disk = join(folder.path, "disk");
    await mkdir(disk);
    const { code, stdout, stderr } = await espalier(["run", "tiny.yaml", "--out", "disk/run"], {
      cwd: folder.path,
      shell: `exec unshare -rm sh -c 'mount -t tmpfs -o size=128k tmpfs disk && "$@"; code=$?; ls -A disk/run/checkpoints; exit $code' sh "$@"`,
      env: { ESPALIER_CACHE: await warmCache() },
    });
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/disk is full|no space/i);
    expect(stdout.trim(), "what is left in checkpoints/").toBe("");
    await rm(disk, { recursive: true, force: true });
  });

  async function warmCache(): Promise<string> {
    const cache = join(folder.path, "cache");
    if (!(await exists(cache))) {
      const { code, stderr } = await espalier(["run", "tiny.yaml", "training.steps=4", "--out", "warm"], {
        cwd: folder.path,
        env: { ESPALIER_CACHE: cache },
      });
      expect(code, stderr).toBe(0);
    }
    return cache;
  }
});

describe("wrong use of the command line", () => {
  it.concurrent.each([
    ["an unknown command", ["rnu"], "(Did you mean run?)"],
    ["help of an unknown command", ["rnu", "--help"], "unknown command 'rnu'\n(Did you mean run?)"],
    ["help before an unknown command", ["-h", "sweep"], "unknown command 'sweep'"],
    ["help about an unknown command", ["help", "rnu"], "unknown command 'rnu'\n(Did you mean run?)"],
    [
      "help of an unknown command of a command",
      ["plugin", "lst", "--help"],
      "unknown command 'lst'\n(Did you mean list?)",
    ],
    ["an unknown option", ["plan", "tiny.yaml", "--jsn"], "(Did you mean --json?)"],
    ["a missing argument", ["plan"], "missing required argument 'definition'"],
    ["a missing option", ["sample", "x"], "--prompt"],
    ["a wrong number", ["run", "tiny.yaml", "--threads", "many"], "whole number"],
    ["one run to compare", ["compare", "x"], "only one run"],
    ["no run to compare", ["compare", "x", "y"], "no run folder"],
    ["a checkpoint that is not there", ["evaluate", "nowhere", "tiny.yaml"], "nowhere is no checkpoint"],
    ["an evaluation without a definition", ["evaluate", "nowhere"], "takes a definition"],
    ["a backend to set up that is not there", ["setup", "libtroch"], 'did you mean "libtorch"'],
  ])("%s", async (_, args, message) => {
    const { code, stdout, stderr } = await espalier(args, { cwd: folder.path });
    expect(code, stderr).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(stdout).toBe("");
  });
});

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
