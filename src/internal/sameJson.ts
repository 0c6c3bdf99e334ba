/**
 * Compares two JSON values by content, to recognise a redelivered call: ignores the order of keys, the form of numbers
 * and the escapes of strings. Both stores use it, so a call that is `unchanged` in one is not a conflict in the other.
 */

/** Sluice records nothing that is nested deeper. */
const deepest = 4096

const isSame = (a: unknown, b: unknown, depth: number): boolean => {
  // 0 and -0 are the same number in JSON and for `===`
  if (a === b) return true
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null || depth > deepest) return false
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((value, index) => isSame(value, b[index], depth + 1))
  }
  if (Array.isArray(b)) return false
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && isSame(Reflect.get(a, key), Reflect.get(b, key), depth + 1))
}

/**
 * Whether two parsed JSON values have the same content. In values that were not recorded by Sluice a number may be
 * infinite.
 */
export const sameJson = (a: unknown, b: unknown): boolean => isSame(a, b, 0)
