/**
 * What test files leave to be cleaned up at their end. Several files may share a process, and with it the modules that
 * they import: hooks at the top of such a module would belong to the first of these files only.
 */

const cleanups = new Set<() => Promise<void> | void>()

/** Cleans up when the current test file ends. */
export const atEndOfFile = (cleanup: () => Promise<void> | void): void => {
  cleanups.add(cleanup)
}

/** Ends a test file: the latest cleanup first. */
export const endFile = async (): Promise<void> => {
  const all = [...cleanups].reverse()
  cleanups.clear()
  for (const cleanup of all) await cleanup()
}
