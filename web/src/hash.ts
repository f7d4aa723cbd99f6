// Lake, date and track live in the address, so that a view can be shared.

export interface View {
  lake: string | null;
  date: string | null;
  track: number | null;
}

export function readHash(): View {
  const given = new URLSearchParams(location.hash.slice(1));
  const track = given.get("track");
  return {
    lake: given.get("lake"),
    date: given.get("date"),
    track: track !== null && /^\d+$/.test(track) ? Number(track) : null,
  };
}

export function writeHash(view: View, newEntry: boolean): void {
  const parts = [];
  if (view.lake) parts.push(`lake=${encodeURIComponent(view.lake)}`);
  if (view.date) parts.push(`date=${encodeURIComponent(view.date).replaceAll("%3A", ":")}`);
  if (view.track !== null) parts.push(`track=${view.track}`);
  const hash = `#${parts.join("&")}`;
  if (hash === location.hash) return;
  if (newEntry) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
}
