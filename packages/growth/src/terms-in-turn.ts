import type { AxisMap, GrowthTerm } from "@espalier/core";

type IndexMap = Extract<AxisMap, { kind: "index" }>;

/** Terms that follow each other along an axis. */
export interface TermsInTurn {
  readonly axis: number;
  readonly terms: readonly GrowthTerm[];
}

// With more turns than this, adding whole terms is as good as laying their parts beside each other.
const mostTurns = 32;

/**
 * A sum whose terms take turns along one axis, because each entry of it has a scale other than 0 in one term alone (AKI:
 * old outputs from the own layer, new ones from the next), as parts that follow each other there.
 *
 * @returns null if the terms overlap, or change too often
 */
export function termsInTurn(terms: readonly GrowthTerm[]): TermsInTurn | null {
  const [first, ...rest] = terms;
  if (!first || rest.length === 0) return null;
  for (const axis of (first.axes ?? []).keys()) {
    const maps = terms.map((term) => term.axes?.[axis]).filter((map) => isMasked(map));
    if (maps.length !== terms.length) continue;
    const turns = turnsOf(maps);
    if (turns)
      return {
        axis,
        terms: turns.map(({ owner, begin, end }) => part(terms[owner]!, axis, maps[owner]!, begin, end)),
      };
  }
  return null;
}

interface Turn {
  readonly owner: number;
  readonly begin: number;
  readonly end: number;
}

function isMasked(map: AxisMap | null | undefined): map is MaskedMap {
  return map?.kind === "index" && map.scales !== undefined;
}

type MaskedMap = IndexMap & { readonly scales: readonly number[] };

function turnsOf(maps: readonly MaskedMap[]): readonly Turn[] | null {
  const turns: Turn[] = [];
  const length = maps[0]!.indices.length;
  let [owner, begin] = [-1, 0];
  for (let entry = 0; entry < length; entry++) {
    let here = -1;
    for (const [term, { scales }] of maps.entries()) {
      if (scales[entry] === 0) continue;
      if (here >= 0) return null;
      here = term;
    }
    // An entry that no term gives anything is 0 in each of them.
    if (here < 0 || here === owner) continue;
    if (owner >= 0) {
      turns.push({ owner, begin, end: entry });
      if (turns.length >= mostTurns) return null;
      begin = entry;
    }
    owner = here;
  }
  return owner < 0 ? null : [...turns, { owner, begin, end: length }];
}

function part(term: GrowthTerm, axis: number, map: MaskedMap, begin: number, end: number): GrowthTerm {
  const axes = [...term.axes!];
  axes[axis] = {
    kind: "index",
    indices: map.indices.slice(begin, end),
    scales: map.scales.slice(begin, end),
  };
  return { ...term, axes };
}
