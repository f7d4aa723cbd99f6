// What the service answers. Addresses are relative: the page also works below a path.
import type { Geometry } from "geojson";

export type State = "unknown" | "open" | "ice" | "wet_snow" | "rough";

export interface Latest {
  time: string;
  track: number;
  area_km2: number | null;
  area_low: number | null;
  area_high: number | null;
  state: State | null;
  observed_fraction: number | null;
}

export interface Pass extends Latest {
  platform: string;
  state_probability: number | null;
  expected_km2: number | null;
  anomaly_km2: number | null;
}

export interface Trend {
  track: string;
  statistic: string;
  slope: number | null;
  slope_low: number | null;
  slope_high: number | null;
  p_value: number | null;
  n: number;
  verdict: string;
  intercept?: number | null;
  detectable?: number | null;
  scatter_verdict?: string | null;
}

export interface Season {
  track: string;
  year: number;
  maximum: number | null;
  fair_maximum?: number | null;
  percentile_90?: number | null;
  median: number | null;
  median_low?: number | null;
  median_high?: number | null;
  passes: number | null;
  passes_excluded?: number | null;
}

export interface Fused {
  time: string;
  area_km2: number | null;
  area_low: number | null;
  area_high: number | null;
}

export interface Lake {
  id: string;
  name: string;
  centroid: [number, number];
  outline: Geometry | null;
  altitude_m: number | null;
  source: string | null;
  tracks: number[];
  passes: number;
  latest: Latest | null;
  trend: Trend | null;
  open_alerts: number;
  release: { id: string; created: string } | null;
}

export interface LakeWhole extends Lake {
  per_track?: { track: number | string; passes: number; known: number; seen: number | null }[];
  unknown?: Record<string, string>;
  model?: string | null;
  model_hash?: string | null;
  snapshot?: string | null;
  config_hash?: string | null;
  volume?: {
    year: number;
    unit: string;
    estimates: { scaling: string; volume: number | null; volume_low: number | null; volume_high: number | null }[];
  } | null;
}

export interface Series {
  rows: Pass[];
  fused: Fused[];
  seasons: Season[];
  trends: Trend[];
}

export interface Alert {
  id: string;
  lake: string;
  track: string | number | null;
  sign: "growth" | "drop";
  stage: "first" | "confirmed" | "closed";
  opened: string;
  confirmed: string | null;
  closed: string | null;
  area_km2: number | null;
  expected_km2: number | null;
  change_percent: number | null;
  acknowledged: string | boolean | null;
}

export interface Basemap {
  url: string;
  attribution: string;
}

/** An answer in JSON; null where there is none (204). Fails with what the service says is wrong. */
async function get<T>(address: string): Promise<T | null> {
  const answer = await fetch(address, { headers: { Accept: "application/json, application/geo+json" } });
  if (answer.status === 204) return null;
  if (!answer.ok) throw new Error(await reason(answer));
  return (await answer.json()) as T;
}

async function reason(answer: Response): Promise<string> {
  try {
    const problem = (await answer.json()) as { detail?: string; title?: string };
    return problem.detail ?? problem.title ?? `HTTP ${answer.status}`;
  } catch {
    return `HTTP ${answer.status}`;
  }
}

const of = (lake: string): string => `lakes/${encodeURIComponent(lake)}`;

export const lakes = async (): Promise<{ lakes: Lake[]; basemap?: Basemap | null }> =>
  (await get<{ lakes: Lake[]; basemap?: Basemap | null }>("lakes")) ?? { lakes: [] };

export const lake = (id: string): Promise<LakeWhole | null> => get(of(id));

export const series = async (id: string): Promise<Series> => {
  const found = await get<Partial<Series>>(`${of(id)}/series`);
  return { rows: found?.rows ?? [], fused: found?.fused ?? [], seasons: found?.seasons ?? [], trends: found?.trends ?? [] };
};

export const alerts = async (id: string): Promise<Alert[]> =>
  (await get<{ alerts: Alert[] }>(`alerts?lake=${encodeURIComponent(id)}`))?.alerts ?? [];

/** Why something can't be had: asked only after it failed. */
export async function whyNot(address: string): Promise<string> {
  try {
    const answer = await fetch(address);
    return answer.ok ? "it could not be read" : await reason(answer);
  } catch {
    return "the service does not answer";
  }
}

export const outline = <T>(id: string, pass: Pass): Promise<T | null> => get<T>(outlineAddress(id, pass));

export const outlineAddress = (id: string, pass: Pass): string =>
  `${of(id)}/outlines/${encodeURIComponent(pass.time)}?track=${pass.track}`;

export const imageAddress = (id: string, pass: Pass, layer: string, size: number): string =>
  `images/${encodeURIComponent(id)}/${encodeURIComponent(pass.time)}?size=${size}&layer=${layer}&outline=true&track=${pass.track}`;

export const cogAddress = (id: string, pass: Pass, layer: "water" | "vv"): string =>
  `${of(id)}/cog/${encodeURIComponent(pass.time)}?layer=${layer}&track=${pass.track}`;

export const csvAddress = (id: string, track: number | null): string =>
  `${of(id)}/series?format=csv${track === null ? "" : `&track=${track}`}`;

export const capAddress = (alert: Alert): string => `alerts/${encodeURIComponent(alert.id)}.cap`;
