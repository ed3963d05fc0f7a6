/** Target unit i is a copy of source unit i mod n. `[target]` */
export function repeated(source: number, target: number): number[] {
  return Array.from({ length: target }, (_, unit) => unit % source);
}

/** The share of each copy in what its unit feeds: of c copies the k-th has k parts of 1 + 2 + … + c, so that copies differ. */
export function shares(units: readonly number[]): number[] {
  const copies = new Map<number, number>();
  const turns = units.map((unit) => {
    copies.set(unit, (copies.get(unit) ?? 0) + 1);
    return copies.get(unit)!;
  });
  return units.map((unit, at) => {
    const count = copies.get(unit)!;
    return (2 * turns[at]!) / (count * (count + 1));
  });
}
