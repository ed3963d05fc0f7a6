import { type Corpus, UsageError } from "@espalier/core";
import { describe, expect, it } from "vitest";
import { sotuCorpus } from "./corpora/sotu.js";
import {
  chooseSplitRule,
  type SplitDocument,
  splitByHash,
  splitDocuments,
  tailStart,
} from "./document-split.js";

function documents(texts: readonly string[]): Corpus {
  return {
    fingerprint: async () => "",
    async *documents() {
      yield* texts;
    },
  };
}

async function split(corpus: Corpus, share: number): Promise<SplitDocument[]> {
  const found: SplitDocument[] = [];
  for await (const document of splitDocuments(corpus, share, await chooseSplitRule(corpus, share)))
    found.push(document);
  return found;
}

describe("the split into training and validation", () => {
  it("holds out about its share of the documents", () => {
    const texts = Array.from({ length: 20_000 }, (_, index) => `document ${index}`);
    for (const share of [0, 0.05, 0.5]) {
      const heldOut = texts.filter((text) => splitByHash(text, share) === "validation").length / texts.length;
      expect(Math.abs(heldOut - share)).toBeLessThan(0.01);
    }
  });

  it("leaves a document on its side when others come or go, and when the share grows", async () => {
    const all = await split(sotuCorpus(), 0.05);
    const some = await split(sotuCorpus({ from: 1900, to: 1999 }), 0.05);
    const side = new Map(all.map((document) => [document.text, document.split]));
    for (const document of some) expect(document.split).toBe(side.get(document.text));
    for (const { text, split } of all)
      if (split === "validation") expect(splitByHash(text, 0.2)).toBe("validation");
    expect(all.filter((document) => document.split === "validation").length).toBeGreaterThan(3);
  });

  it("holds out the end of each document where there are too few to choose from", async () => {
    const book = Array.from({ length: 400 }, (_, index) => `word${index}`).join(" ");
    const found = await split(documents([book]), 0.1);
    expect(found.map((document) => document.split)).toEqual(["train", "validation"]);
    expect(found.map((document) => document.text).join("")).toBe(book);
    expect(found[1]!.text.length / book.length).toBeCloseTo(0.1, 1);
    expect(found[1]!.text).toMatch(/^word\d+ /);
  });

  it("cuts no character in two", () => {
    const text = "😀".repeat(50);
    for (const share of [0.05, 0.11, 0.5, 0.51]) {
      const start = tailStart(text, share);
      expect(start % 2).toBe(0);
    }
    expect(tailStart("", 0.5)).toBe(0);
  });

  it("leaves out empty documents and holds out nothing at a share of 0", async () => {
    expect(await split(documents(["", "a text", " \n"]), 0)).toEqual([{ split: "train", text: "a text" }]);
  });

  it("refuses a corpus without text", async () => {
    await expect(chooseSplitRule(documents([" "]), 0.05)).rejects.toThrow(UsageError);
  });
});
