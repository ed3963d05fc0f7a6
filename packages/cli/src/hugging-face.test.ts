import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openCheckpoint } from "@espalier/checkpoints";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exportCheckpoint } from "./export-checkpoint.js";
import { importCheckpoint } from "./import-checkpoint.js";
import { probeCheckpoint } from "./probe-checkpoint.js";
import { readTokenizer } from "./read-tokenizer.js";
import { sampleText } from "./sample-text.js";
import { espalier, makeFolder } from "./testing/espalier.js";
import {
  askTransformers,
  type Loaded,
  type PeerAnswer,
  runPython,
  withoutTransformers,
} from "./testing/transformers-peer.js";

const tinyBert = `name: tiny-bert
model: { family: bert, depth: 2, hiddenSize: 16, attentionHeads: 2, dropout: 0.1 }
data:
  corpus: { use: text, files: corpus.txt, separator: blank-line }
  tokenizer: { kind: wordpiece, vocabSize: 90 }
  sequenceLength: 16
training: { steps: 4, batchSize: 2, optimizer: { learningRate: 3e-3 } }
evaluation: { every: 4, batches: 1 }
threads: 1
`;

const texts = [
  "The people of a union, and the state.",
  "naïve café – 東京 👩‍👩‍👧 12,345.67\n\n  two spaces",
  "a [MASK] of <|endoftext|> nation",
  "",
];
const ids = [5, 9, 17, 3, 80];
const prompt = "the people";
const newTokens = 6;

let folder: Awaited<ReturnType<typeof makeFolder>>;
let answer: PeerAnswer;
const at = (...path: string[]): string => join(folder.path, ...path);
const made = (name: string): string => at("made", name);
const loaded = (index: number): Loaded => answer.loaded[index]!;

/** Every logit of a sequence, by our engine. */
async function logitsOf(checkpoint: string, layerMap?: string): Promise<readonly (readonly number[])[]> {
  const request = { batch: at("batch.json"), learningRate: 0, weightDecay: 0, threads: 1 };
  const probe = await probeCheckpoint(
    checkpoint,
    layerMap === undefined ? request : { ...request, layerMap },
    () => undefined,
  );
  return probe.logits[0]!;
}

function expectSameLogits(
  ours: readonly (readonly number[])[],
  theirs: readonly (readonly number[])[],
): void {
  expect(ours.length).toBe(theirs.length);
  const differences = ours.flatMap((row, position) =>
    row.map((logit, token) => Math.abs(logit - theirs[position]![token]!)),
  );
  expect(differences.length).toBe(ids.length * theirs[0]!.length);
  expect(differences.reduce((worst, difference) => Math.max(worst, difference), 0)).toBeLessThan(1e-5);
  // Logits that are all alike would prove nothing.
  expect(new Set(theirs.flat().map((logit) => logit.toFixed(4))).size).toBeGreaterThan(50);
}

describe.skipIf(withoutTransformers !== null)(
  `beside real transformers${withoutTransformers === null ? "" : ` (${withoutTransformers})`}`,
  () => {
    beforeAll(async () => {
      folder = await makeFolder();
      await mkdir(at("made"));
      await writeFile(at("bert.yaml"), tinyBert);
      await writeFile(
        at("batch.json"),
        JSON.stringify({
          input_ids: [ids],
          attention_mask: [ids.map(() => 1)],
          labels: [ids],
        }),
      );
      for (const [definition, out, ...more] of [
        ["tiny.yaml", "gpt2", "checkpoints.keep=9"],
        ["bert.yaml", "bert"],
      ] as const) {
        const run = await espalier(["run", definition!, ...more, "--out", out!], { cwd: folder.path });
        expect(run.code, run.stderr).toBe(0);
      }
      await exportCheckpoint(at("gpt2"), { out: at("exported", "gpt2") });
      await exportCheckpoint(at("gpt2"), { out: at("exported", "grown-half"), step: 4 });
      await exportCheckpoint(at("gpt2", "checkpoints", "step-4"), {
        out: at("exported", "unrolled"),
        depth: 4,
      });
      await exportCheckpoint(at("bert"), { out: at("exported", "bert") });
      answer = await askTransformers({
        make: at("made"),
        ids,
        load: ["gpt2", "grown-half", "unrolled", "bert"].map((name) => ({
          folder: at("exported", name),
          ids,
          texts,
          ...(name === "bert" ? {} : { prompt, newTokens }),
        })),
      });
    }, 180_000);
    afterAll(() => folder.remove());

    describe.each([
      ["the last step of a GPT-2", 0, "gpt2", undefined, 4],
      ["a step of a partly grown GPT-2, its unique layers", 1, "gpt2/checkpoints/step-4", undefined, 2],
      ["the same unrolled by the run's mapping", 2, "gpt2/checkpoints/step-4", "0,0,1,1", 4],
      ["a BERT", 3, "bert", undefined, 2],
    ] as const)("what is exported: %s", (_, index, source, layerMap, depth) => {
      it("loads without a key too few or too many", () => {
        expect(loaded(index).loading).toEqual({
          missing_keys: [],
          unexpected_keys: [],
          mismatched_keys: [],
          error_msgs: [],
        });
      });

      it("has the same logits", async () => {
        expectSameLogits(await logitsOf(at(source), layerMap), loaded(index).logits);
      });

      it("has the same tokens, lengths and special tokens", async () => {
        const tokenizer = await readTokenizer(at("exported", source.startsWith("bert") ? "bert" : "gpt2"));
        const ours = await tokenizer.encodeBatch(texts);
        expect(loaded(index).ids).toEqual(ours.map((each) => [...each]));
        expect(loaded(index).decoded).toEqual(
          ours.map((each) => tokenizer.decode(each, { specialTokens: true })),
        );
        const { sequenceStart, sequenceEnd } = tokenizer.markers;
        expect(loaded(index).idsWithSpecialTokens).toEqual(
          ours.map((each) =>
            [sequenceStart, ...each, sequenceStart === null ? null : sequenceEnd].filter((id) => id !== null),
          ),
        );
        expect(loaded(index)).toMatchObject({
          maxLength: 16,
          length: tokenizer.info.vocabSize,
          special: {
            mask_token_id: tokenizer.info.maskToken,
            pad_token_id: tokenizer.info.padToken,
            eos_token_id: sequenceStart === null ? tokenizer.info.endOfText : null,
          },
          inputs:
            sequenceStart === null
              ? ["attention_mask", "input_ids"]
              : ["attention_mask", "input_ids", "token_type_ids"],
        });
      });

      it("continues a text with the same tokens, and can be imported again", async () => {
        const exported = at("exported", ["gpt2", "grown-half", "unrolled", "bert"][index]!);
        const { differences } = await importCheckpoint(exported, { out: `${exported}-back`, leaveOut: [] });
        expect(differences).toEqual([]);
        const [there, back] = [await openCheckpoint(exported), await openCheckpoint(`${exported}-back`)];
        for (const name of there.weights.tensors.keys())
          expect(await back.weights.readFloats(name), name).toEqual(await there.weights.readFloats(name));
        expect([...back.weights.tensors.keys()].some((name) => name.includes(`.${depth - 1}.`))).toBe(true);
        await there.close();
        await back.close();
        if (index === 3) return;
        const sampling = { prompt, tokens: newTokens, temperature: 0, seed: 1, threads: 1 };
        let said = "";
        for await (const piece of sampleText(`${exported}-back`, sampling, () => undefined)) said += piece;
        expect(loaded(index).generated).toBe(said);
        expect(said.length).toBeGreaterThan(prompt.length);
      });
    });

    it("does what the documentation's program does", async () => {
      const { code, output } = runPython("docs/examples/hugging-face.py", at("exported", "gpt2"));
      expect(code, output).toBe(0);
      expect(output).toContain(loaded(0).generated);
      const { differences, hasTokenizer } = await importCheckpoint(at("exported", "gpt2-trained-on"), {
        out: at("imported", "trained-on"),
        leaveOut: [],
      });
      expect({ differences, hasTokenizer }).toEqual({ differences: [], hasTokenizer: true });
      expectSameLogits(await logitsOf(at("imported", "trained-on")), loaded(0).logits);
    });

    describe("what is imported", () => {
      it.each([
        [
          "a sharded BertForPreTraining",
          "bert-pretraining-sharded",
          [
            "left out, the pooler: bert.pooler.dense.bias [16], bert.pooler.dense.weight [16,16]",
            "left out, the next-sentence head: cls.seq_relationship.bias [2], cls.seq_relationship.weight [2,16]",
          ],
        ],
        ["a half-precision one", "bert-half", ["converted from F16 to F32: 42 tensors"]],
        ["a bfloat16 one", "bert-bfloat16", ["converted from BF16 to F32: 42 tensors"]],
        [
          "the names of the first checkpoints",
          "bert-older-names",
          ["renamed as Hugging Face saves them today: 12 tensors"],
        ],
        ["a GPT2LMHeadModel", "gpt2", []],
        ["a float64 one", "gpt2-double", ["converted from F64 to F32: 28 tensors"]],
        [
          "a GPT2Model saved alone",
          "gpt2-without-prefix",
          ["renamed as Hugging Face saves them today: 28 tensors"],
        ],
      ])("%s: the same logits, and what differs is told", async (_, name, differences) => {
        const done = await importCheckpoint(made(name), { out: at("imported", name), leaveOut: [] });
        expect(done.differences).toEqual([
          ...differences,
          "there is no tokenizer.json: text can be neither read nor written with it",
        ]);
        const before = tf.memory().numTensors;
        expectSameLogits(await logitsOf(at("imported", name)), answer.made[name]!);
        expect(tf.memory().numTensors).toBe(before);
      });

      it.each([
        [
          "a BertModel saved alone",
          "bert-without-head",
          /5 of 42 parameters are missing: "cls\.predictions\.bias"/,
          /masked-LM head/,
        ],
        ["an untied head", "gpt2-untied", /"tie_word_embeddings" is false/, /supported: true/],
        ["cross attention", "gpt2-cross-attention", /"add_cross_attention" is true/, /supported: false/],
      ])("not %s", async (_, name, message, hint) => {
        await expect(
          importCheckpoint(made(name), { out: at("refused", name), leaveOut: [] }),
        ).rejects.toMatchObject({
          exitCode: 2,
          message: expect.stringMatching(message),
          hint: expect.stringMatching(hint),
          file: expect.stringContaining(made(name)),
        });
      });
    });
  },
);
