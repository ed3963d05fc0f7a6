/** A key that stands twice in one object of a JSON text. */
export interface RepeatedKey {
  /** The keys that lead to that object; array elements have none. */
  readonly within: readonly string[];
  readonly key: string;
}

interface OpenObject {
  readonly keys: Set<string>;
  /** The key under which this one's next value stands. */
  current: string | null;
}

/**
 * Finds the first key that an object has twice. `JSON.parse` keeps the last of two without a word, so a tensor that is
 * described twice would be read from the wrong bytes.
 *
 * @param text JSON that parses
 */
export function repeatedKey(text: string): RepeatedKey | null {
  // null stands for an array.
  const open: (OpenObject | null)[] = [];
  let expectsKey = false;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '"': {
        const start = at;
        for (at++; text[at] !== '"'; at++) if (text[at] === "\\") at++;
        const object = open.at(-1);
        if (!expectsKey || !object) break;
        const key = JSON.parse(text.slice(start, at + 1)) as string;
        if (object.keys.has(key)) return { within: pathOf(open), key };
        object.keys.add(key);
        object.current = key;
        expectsKey = false;
        break;
      }
      case "{":
        open.push({ keys: new Set(), current: null });
        expectsKey = true;
        break;
      case "[":
        open.push(null);
        expectsKey = false;
        break;
      case "}":
      case "]":
        open.pop();
        expectsKey = false;
        break;
      case ",":
        expectsKey = open.at(-1) !== null;
        break;
    }
  }
  return null;
}

function pathOf(open: readonly (OpenObject | null)[]): string[] {
  return open.slice(0, -1).flatMap((object) => (object?.current == null ? [] : [object.current]));
}
