import { z } from "zod";

/**
 * The names of strategies as options take them: `fpi`, or `{ use: fpi, selection: uniform }`. Apart from the contracts,
 * which so need no zod: it takes longer to load than all of them, and commands that only copy bytes do without.
 */
export const strategyName = z.union([z.string().min(1), z.looseObject({ use: z.string().min(1) })]);
