// The benchmark's figures as tables. `node benchmarks/tables.mjs [results.json]` writes them into the marked places of
// README.md; `npm run bench` prints the same rows.
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Every participant of every case, as Markdown. */
export function stepsTable(cases) {
  const rows = cases.flatMap(({ key, results, floor }) =>
    results.map((result, index) => [
      index === 0 ? key : "",
      result.name,
      whole(result.tokensPerSecond),
      milliseconds(result.stepSeconds),
      result.ratio === null ? "" : result.ratio.toFixed(2),
      gigabytes(result.peakBytes),
      result.ratio === null ? "" : (results[0].peakBytes / result.peakBytes).toFixed(2),
      floor ? percent(floor.seconds / result.stepSeconds) : "",
      result.disturbedWindows > 0
        ? `${result.countedWindows} + ${result.disturbedWindows}`
        : `${result.countedWindows}`,
    ]),
  );
  const heads = [
    "case",
    "who",
    "tokens/s",
    "step",
    "speed",
    "peak memory",
    "memory",
    "of the floor",
    "windows",
  ];
  return markdown(heads, rows, ["left", "left"]);
}

/** One row per case: how many times as fast as each peer we are. */
export function ratiosTable(cases) {
  const present = new Map(
    cases.flatMap(({ results }) => results.slice(1).map(({ key, name }) => [key, name])),
  );
  const of = (results, key) => results.find((result) => result.key === key);
  const rows = cases.map(({ key, results, floor }) => [
    key,
    whole(results[0].tokensPerSecond),
    ...[...present.keys()].map((peer) => of(results, peer)?.ratio.toFixed(2) ?? "–"),
    of(results, "hf") ? (results[0].peakBytes / of(results, "hf").peakBytes).toFixed(2) : "–",
    floor ? percent(floor.seconds / results[0].stepSeconds) : "–",
  ]);
  const heads = ["case", "tokens/s", ...present.values(), "memory / Hugging Face", "of the floor"];
  return markdown(heads, rows, ["left"]);
}

/** Matrix FLOPs of a step, the rates they were measured at, and the floor that follows. */
export function floorTable(cases) {
  const rows = cases
    .filter(({ floor }) => floor)
    .map(({ key, floor, results }) => [
      key,
      (floor.flops / 1e9).toFixed(1),
      rate(floor.rates.hf ?? floor.rates.manual),
      rate(floor.rates[results[0].key]),
      milliseconds(floor.seconds),
      milliseconds(results[0].stepSeconds),
      percent(floor.seconds / results[0].stepSeconds),
    ]);
  const heads = ["case", "GFLOP", "GFLOP/s, PyTorch", "GFLOP/s, ours", "floor", "our step", "of the floor"];
  return markdown(heads, rows, ["left"]);
}

/** What a layer takes, by the number of layers that a step executes; a growth step beside a training step. */
export function depthsTable(cases) {
  const rows = cases.flatMap(({ key, depths }) =>
    Object.values(depths ?? {}).map((each) => {
      const times = each.depths.map(({ perLayer }) => perLayer);
      return [
        key,
        each.name,
        ...each.depths.map(({ perLayer }) => (perLayer * 1000).toFixed(1)),
        `${(100 * (Math.max(...times) / Math.min(...times) - 1)).toFixed(0)} %`,
      ];
    }),
  );
  const first = cases.flatMap(({ depths }) => Object.values(depths ?? {}))[0];
  if (first === undefined) return "";
  const heads = ["case", "who", ...first.depths.map(({ depth }) => `${depth}`), "spread"];
  return markdown(heads, rows, ["left", "left"]);
}

/** A growth step beside a training step. */
export function growthTable(cases) {
  const rows = cases
    .filter(({ growth }) => growth)
    .map(({ key, growth, results }) => [
      key,
      milliseconds(growth.seconds),
      milliseconds(results[0].stepSeconds),
      percent(growth.seconds / results[0].stepSeconds),
    ]);
  return markdown(["case", "growth step", "training step", "growth / training"], rows, ["left"]);
}

/** Where and when the figures were taken, and who could not take part. */
export function conditions(cases) {
  const unique = (texts) => [...new Set(texts)];
  const machines = unique(
    cases.map(
      ({ machine }) =>
        `${machine.processor}, ${machine.cores} cores, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, ${machine.threads} threads for everyone, Node ${machine.node}, ${machine.platform}`,
    ),
  );
  const versions = unique(cases.flatMap(({ results }) => results.map(({ version }) => version)));
  const commits = unique(cases.flatMap(({ machine }) => machine.commit ?? []));
  const absent = unique(
    cases.flatMap(({ key, absent }) => absent.map(({ name, why }) => `${name} (${key}): ${why}`)),
  );
  return [
    ...machines.map((text) => `- ${text}`),
    `- ${versions.join("; ")}`,
    ...(commits.length > 0 ? [`- commit ${commits.join(", ")}, ${cases.at(-1).date.slice(0, 10)}`] : []),
    ...absent.map((text) => `- left out: ${text}`),
  ].join("\n");
}

/** What `npm run bench` prints. */
export function allTables(cases) {
  const more = [depthsTable(cases), cases.some(({ growth }) => growth) ? growthTable(cases) : ""];
  return [stepsTable(cases), ...more.filter((text) => text !== "")].join("\n\n");
}

/** A Markdown table, its columns padded so that it is readable as text, too. */
export function markdown(heads, rows, alignments = []) {
  const widths = heads.map((head, column) =>
    Math.max(3, head.length, ...rows.map((row) => row[column].length)),
  );
  const isLeft = (column) => alignments[column] === "left";
  const pad = (text, column) =>
    isLeft(column) ? text.padEnd(widths[column]) : text.padStart(widths[column]);
  const line = (cells) => `| ${cells.map(pad).join(" | ")} |`;
  const rule = widths.map((width, column) =>
    isLeft(column) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`,
  );
  return [line(heads), `| ${rule.join(" | ")} |`, ...rows.map(line)].join("\n");
}

/**
 * Puts texts into their marked places: what lies between `<!-- measured: NAME -->` and `<!-- end -->`.
 *
 * @throws Error for a name that has no place
 */
export function fillPlaces(text, contents) {
  return Object.entries(contents).reduce((filled, [name, content]) => {
    const begin = `<!-- measured: ${name} -->`;
    const from = filled.indexOf(begin);
    const to = filled.indexOf("<!-- end -->", from);
    if (from === -1 || to === -1) throw new Error(`there is no place for "${name}": ${begin} … <!-- end -->`);
    return `${filled.slice(0, from)}${begin}\n${content}\n${filled.slice(to)}`;
  }, text);
}

function whole(number) {
  return Math.round(number).toLocaleString("en");
}

function milliseconds(seconds) {
  return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
}

function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}

function gigabytes(bytes) {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

function rate(measured) {
  return measured === undefined ? "–" : whole(measured.flopsPerSecond / 1e9);
}

const here = fileURLToPath(import.meta.url);
if (process.argv[1] && realpathSync(process.argv[1]) === here) {
  const folder = join(here, "..");
  const file = process.argv[2] ?? join(folder, "results", "cpu.json");
  const cases = Object.values(JSON.parse(readFileSync(file, "utf8")).cases);
  const readme = join(folder, "README.md");
  const contents = {
    conditions: conditions(cases),
    ratios: ratiosTable(cases),
    steps: stepsTable(cases),
    floor: floorTable(cases),
    depths: depthsTable(cases),
    growth: growthTable(cases),
  };
  writeFileSync(readme, fillPlaces(readFileSync(readme, "utf8"), contents));
}
