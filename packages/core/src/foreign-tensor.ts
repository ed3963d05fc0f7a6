/**
 * A tensor that checkpoints of an architecture may hold beside the family's parameters: another head, a buffer, a copy of
 * a tied weight. Names are matched as Hugging Face saves them today, with the base model's prefix where it has one.
 */
export interface ForeignTensor {
  readonly name: RegExp;
  /** What it is, for people: "the pooler". */
  readonly what: string;
  /**
   * `leave-out`: the family's logits do not depend on it. `refuse`: they do, and the family does not compute it.
   * `tied`: a copy of a parameter, left out where it is the same and refused where it is not.
   */
  readonly treatment: "leave-out" | "refuse" | { readonly tiedTo: string };
}
