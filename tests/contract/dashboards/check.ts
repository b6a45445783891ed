// The shape of a dashboard as Grafana's own types have it; an enumeration's values may stand as plain text, as in JSON.
import type { Dashboard } from "@grafana/schema";

type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer U)[]
      ? Plain<U>[]
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

export type Board = Plain<Dashboard>;
