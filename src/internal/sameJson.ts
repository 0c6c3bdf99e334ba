/**
 * Whether two JSON values are the same content, as a redelivered call is: whatever the order of keys, the form of numbers
 * and the escapes of texts. Both stores ask here, so that a call that is `unchanged` on one is no conflict on the other.
 */

/** What is nested deeper was not recorded by Sluice. */
const deepest = 4096

const isSame = (a: unknown, b: unknown, depth: number): boolean => {
  // 0 and -0 are one number in JSON's eyes, and in `===`
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

/** Whether two parsed JSON values are the same. Of values that were not recorded by Sluice a number may be infinite. */
export const sameJson = (a: unknown, b: unknown): boolean => isSame(a, b, 0)
