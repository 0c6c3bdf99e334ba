/** Says in words what the operating system reported about a file. */
import * as Predicate from "effect/Predicate"

const problems: Readonly<Record<string, (file: string) => string>> = {
  ENOENT: (file) => `there is no file ${file}`,
  EISDIR: (file) => `${file} is a folder, not a file`,
  ENOTDIR: (file) => `the path ${file} goes through a file as if it were a folder`,
  EACCES: (file) => `this user has no permission for ${file}`,
  EPERM: (file) => `this user has no permission for ${file}`,
  EEXIST: (file) => `${file} exists already`,
  ELOOP: (file) => `the links at ${file} form a loop`,
  ENAMETOOLONG: (file) => `the path ${file.length > 100 ? `${file.slice(0, 60)}…` : file} is too long`,
  ENOSPC: (file) => `no space is left on the disk for ${file}`,
  EROFS: (file) => `${file} is on a read-only file system`,
  EMFILE: (file) => `${file} cannot be opened: this process has too many open files`,
  ENFILE: (file) => `${file} cannot be opened: this machine has too many open files`
}

const connecting = /^(connect|listen|bind|getaddrinfo|spawn)/

/**
 * The problem with a file in words, or undefined if the error is not the operating system's about a file. Errors of a read
 * do not name their file: the caller names it.
 */
export const fileProblem = (error: unknown, file?: string): string | undefined => {
  if (!Predicate.hasProperty(error, "syscall") || !Predicate.hasProperty(error, "code")) return undefined
  const { code, syscall } = error
  if (typeof syscall !== "string" || typeof code !== "string" || connecting.test(syscall)) return undefined
  const path = Predicate.hasProperty(error, "path") && typeof error.path === "string" ? error.path : file
  const problem = Object.hasOwn(problems, code) ? problems[code] : undefined
  return path === undefined ? undefined : problem?.(path)
}
