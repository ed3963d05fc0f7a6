/** Gradual stacking (Reddi et al. 2023): the layers that are there, then copies of the topmost ones until the depth is met. */
export function appendedLayers(uniqueLayers: number, executedDepth: number): number[] {
  const map = Array.from({ length: Math.min(uniqueLayers, executedDepth) }, (_, layer) => layer);
  while (map.length < executedDepth) {
    const missing = Math.min(executedDepth - map.length, uniqueLayers);
    for (let layer = uniqueLayers - missing; layer < uniqueLayers; layer++) map.push(layer);
  }
  return map;
}
