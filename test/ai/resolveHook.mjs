// The provider packages on npm are betas that import `effect/unstable/*`, which Effect 4.1 has under other names.
import { registerHooks } from "node:module"

const present = (name) =>
  name.startsWith("effect/unstable/")
    ? name.replace("effect/unstable/", "effect/").replace("effect/httpapi", "effect/http-api")
    : name === "effect/Encoding"
    ? "effect/encoding"
    : name

registerHooks({ resolve: (name, context, next) => next(present(name), context) })
