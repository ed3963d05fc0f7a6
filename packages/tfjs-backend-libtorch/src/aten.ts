import type { Addon } from "./addon.js";

const named: AtenOperator[] = [];

/** Every operator that was named so far: what the loaded kernels may call. */
export function namedOperators(): readonly AtenOperator[] {
  return named;
}

/** An operator of PyTorch's dispatcher by its schema name. Its index in the addon is looked up at the first call. */
export class AtenOperator {
  private index = -1;
  private addon: Addon | null = null;

  constructor(
    readonly name: string,
    readonly overload: string,
  ) {}

  /**
   * @returns the number under which the addon calls this operator
   * @throws when this version of libtorch has no such operator
   */
  indexIn(addon: Addon): number {
    if (this.addon !== addon) {
      this.index = addon.operator(this.name, this.overload);
      this.addon = addon;
    }
    return this.index;
  }
}

/** Names an operator as PyTorch's schemas do: `add.Tensor` is the overload `Tensor` of `aten::add`. */
export function aten(schema: string): AtenOperator {
  const [name = "", overload = ""] = schema.split(".");
  return remembered(new AtenOperator(`aten::${name}`, overload));
}

/** Names an operator that the addon itself brings. */
export function ownOperator(name: string): AtenOperator {
  return remembered(new AtenOperator(`espalier::${name}`, ""));
}

function remembered(operator: AtenOperator): AtenOperator {
  named.push(operator);
  return operator;
}
