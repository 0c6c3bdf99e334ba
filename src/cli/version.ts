// Made from package.json by `npm run generate`. Do not edit.

/** The package's version. */
export const version = "0.1.0"
