// Numbers, dates and verdicts in words.
import type { Pass, State, Trend } from "./api";

export const DAY = 86_400_000;

const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const hourFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

export const day = (time: string | number): string => dayFormat.format(new Date(time));
export const moment = (time: string): string => `${day(time)}, ${hourFormat.format(new Date(time))} UTC`;

const minus = (text: string): string => text.replace(/^-/, "−");

export const area = (km2: number): string => `${km2.toFixed(3)}\u00a0km²`;

export function interval(low: number | null, high: number | null): string {
  return low === null || high === null ? "interval not known" : `${low.toFixed(3)} to ${high.toFixed(3)}`;
}

export const percent = (part: number): string => `${Math.round(part * 100)}\u00a0%`;

/** Two figures that count, with a sign. */
export function signed(value: number): string {
  const text = Math.abs(value).toPrecision(2).replace(/e.*/, "");
  const plain = Math.abs(value) < 1e-6 ? "0" : Number(text) === 0 ? "0" : String(Number(Math.abs(value).toPrecision(2)));
  return value < 0 ? `−${plain}` : `+${plain}`;
}

export const STATES: Record<State, string> = {
  open: "open water",
  ice: "ice",
  wet_snow: "wet snow",
  rough: "rough water",
  unknown: "surface not known",
};

export function stateOf(pass: { state: State | null }): State {
  return pass.state ?? "unknown";
}

const STATISTICS: Record<string, string> = {
  maximum: "maximum",
  fair_maximum: "fair maximum",
  percentile_90: "90th percentile",
  median: "median",
};

export const statistic = (name: string): string => STATISTICS[name] ?? name.replaceAll("_", " ");

export const trackName = (track: number | string): string => (track === "fused" ? "all tracks, fused" : `track ${track}`);

/** A trend's verdict, never its p alone. */
export function verdict(trend: Trend | null): string {
  if (!trend) return "Not known: the trend; there is no season with a usable pass.";
  const what = `the seasons’ ${statistic(trend.statistic)} (${trackName(trend.track)}, ${trend.n} ${trend.n === 1 ? "season" : "seasons"})`;
  if (trend.verdict === "too_few_seasons") return `Not known: the trend of ${what}; too few seasons to tell.`;
  const { slope, slope_low: low, slope_high: high, p_value: p } = trend;
  if (slope === null) return `Not known: the trend of ${what}.`;
  const range = low != null && high != null ? `, interval ${signed(low)} to ${signed(high)}` : ", interval not known";
  const numbers = `${signed(slope)} km² a year${range}${p == null ? "" : `, p ${p < 0.001 ? "< 0.001" : p.toPrecision(2)}`}`;
  if (trend.verdict !== "no_trend_detected") return `${capital(trend.verdict)}: ${what}, ${numbers}.`;
  if (trend.scatter_verdict === "increasing" || trend.scatter_verdict === "decreasing")
    return `${capital(trend.scatter_verdict)}, but within the areas’ errors: ${what}, ${numbers}.`;
  const least = trend.detectable != null ? ` Less than ${trend.detectable.toPrecision(2)} km² a year would not have been found.` : "";
  return `No trend detected: ${what}, ${numbers}.${least}`;
}

/** The shortest form, for lists. */
export function verdictShort(trend: Trend | null): string {
  if (!trend || trend.verdict === "too_few_seasons" || trend.slope === null) return "trend not known";
  if (trend.verdict === "no_trend_detected") {
    const scatter = trend.scatter_verdict;
    return scatter === "increasing" || scatter === "decreasing" ? `${scatter}, within the errors` : "no trend detected";
  }
  return `${trend.verdict}, ${signed(trend.slope)} km² a year`;
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** One pass, for the readout and for screen readers. */
export function passWords(pass: Pass): string {
  const seen = pass.observed_fraction === null ? "" : `, ${percent(pass.observed_fraction)} seen`;
  const known =
    pass.area_km2 === null
      ? "not known: the area of this pass"
      : `${area(pass.area_km2)} (${interval(pass.area_low, pass.area_high)})`;
  return `${moment(pass.time)}, track ${pass.track}: ${known}, ${STATES[stateOf(pass)]}${seen}`;
}

export function change(part: number): string {
  return minus(`${part > 0 ? "+" : ""}${part.toFixed(1)}\u00a0%`);
}
