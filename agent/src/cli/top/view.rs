//! The picture: a head of three lines, one table, and a line of keys. It draws into whatever frame it is given, and asks
//! nobody anything.

use std::convert::Infallible;

use ratatui::{
    Frame, Terminal,
    backend::TestBackend,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table as Rows},
};
use serde_json::Value;

use super::model::{Cell, Model, Tab, Width, list, number, span, text as words};

/// A certificate that expires within this is worth a word in the head.
const SOON: f64 = 14.0 * 86_400.0;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [head, table, keys] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(head_of(model)), head);
    draw_table(frame, table, model);
    frame.render_widget(Paragraph::new(keys_of(model)), keys);
}

/// One frame as text, without a terminal.
///
/// # Errors
/// None: the type is ratatui's.
pub(super) fn text(model: &Model, width: u16, height: u16) -> Result<String, Infallible> {
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| draw(frame, model))?;
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned() + "\n"
    };
    Ok((0..height).map(line).collect())
}

fn head_of(model: &Model) -> Vec<Line<'static>> {
    let status = &model.status;
    let state = if status["draining"] == true { "draining" } else { "ready" };
    let streams = number(&status["streams_live"]);
    let listed = list(&status["streams"]).len();
    let beyond = if streams > listed as f64 { format!(" (the oldest {listed} are listed)") } else { String::new() };
    let before = match list(&status["predecessors"]) {
        [] => String::new(),
        before => {
            let theirs: f64 = before.iter().map(|one| number(&one["streams_live"])).sum();
            format!(", {theirs:.0} more in {} of before an upgrade", before.len())
        }
    };
    let paused = if model.paused { ", paused" } else { "" };
    let first = format!(
        "adit {}, {state}, up {}, pid {}, {streams:.0} streams{beyond}{before}{paused}",
        words(&status["version"]),
        span(number(&status["uptime_seconds"])),
        status["pid"]
    );
    let tabs = Tab::ALL.iter().enumerate().flat_map(|(at, tab)| {
        let style = if *tab == model.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!("[{}] {}", at + 1, tab.title()), style), Span::raw(" ")]
    });
    vec![Line::from(first), fault_of(model), Line::from_iter(tabs.chain([Span::raw(filtered(model))]))]
}

/// The worst that there is to say.
fn fault_of(model: &Model) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let said = |value: &Value| value.as_str().map(|text| text.lines().next().unwrap_or_default().to_owned());
    let fault = model.fault.clone().or_else(|| {
        let of = |what: &str, value: &Value| said(value).map(|fault| format!("{what}: {fault}"));
        of("config fault", &model.status["config"]["fault"]).or_else(|| of("TLS fault", &model.status["tls_fault"]))
    });
    if let Some(fault) = fault {
        return Line::styled(fault, bold);
    }
    let certificates = list(&model.status["certificates"]);
    let first = certificates
        .iter()
        .min_by(|one, other| number(&one["expires_in_seconds"]).total_cmp(&number(&other["expires_in_seconds"])));
    match first {
        None => Line::default(),
        Some(first) => {
            let left = number(&first["expires_in_seconds"]);
            let (id, many) = (words(&first["id"]), certificates.len());
            let told = if left < 0.0 {
                format!("certificate {id} HAS EXPIRED")
            } else {
                format!(
                    "{many} certificate{}, the first expires in {} ({id})",
                    if many == 1 { "" } else { "s" },
                    span(left)
                )
            };
            if left < SOON { Line::styled(told, bold) } else { Line::from(told) }
        }
    }
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let table = model.table();
    let (sorted, descending) = model.sorted_by();
    let headings = table.columns.iter().enumerate().map(|(at, (title, _))| match (at == sorted, descending) {
        (true, true) => format!("{title}▼"),
        (true, false) => format!("{title}▲"),
        (false, _) => (*title).to_owned(),
    });
    let headings: Vec<_> = headings.collect();
    let needs = headings.iter().enumerate().map(|(at, heading)| {
        let cells = table.rows.iter().map(|row| row.get(at).map_or(0, |cell| cell.words().chars().count()));
        cells.chain([heading.chars().count()]).max().unwrap_or(0)
    });
    let columns: Vec<_> = table.columns.iter().map(|(_, width)| *width).zip(needs).collect();
    let head = Row::new(headings).style(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED));
    let first = model.first.min(table.rows.len().saturating_sub(1));
    let rows = table.rows[first..].iter().map(|row| Row::new(row.iter().map(Cell::words)));
    let widths = widths(&columns, usize::from(area.width)).into_iter().map(Constraint::Length);
    frame.render_widget(Rows::new(rows, widths).header(head).column_spacing(1), area);
}

/// How wide columns are that need so many cells each: of those that share what the fixed ones leave, none has more than it
/// needs while another has less.
fn widths(columns: &[(Width, usize)], area: usize) -> Vec<u16> {
    let fixed = columns.iter().map(|(width, _)| if let Width::Fixed(cells) = width { usize::from(*cells) } else { 0 });
    let mut left = area.saturating_sub(fixed.sum::<usize>() + columns.len().saturating_sub(1));
    let mut sharing: Vec<(usize, usize, usize)> = Vec::new();
    for (at, (width, need)) in columns.iter().enumerate() {
        if let Width::Share(share) = width {
            sharing.push((at, usize::from(*share), *need));
        }
    }
    let mut given = vec![0; columns.len()];
    while !sharing.is_empty() {
        let shares: usize = sharing.iter().map(|(_, share, _)| share).sum();
        let content = sharing.iter().position(|(_, share, need)| need * shares <= left * share);
        // Once nobody has enough, each has its share.
        let (at, share, need) = sharing.remove(content.unwrap_or(0));
        given[at] = need.min(left * share / shares.max(1));
        left -= given[at];
    }
    let width = |(at, (width, _)): (usize, &(Width, usize))| match width {
        Width::Fixed(cells) => *cells,
        Width::Share(_) => u16::try_from(given[at]).unwrap_or(u16::MAX),
    };
    columns.iter().enumerate().map(width).collect()
}

fn keys_of(model: &Model) -> Line<'static> {
    if model.typing {
        return Line::from(format!("filter: {}_   (Enter keeps it, Esc drops it)", model.filter));
    }
    Line::from("q quit  1-4 table  < > sort  r turn  / filter  space pause  j k scroll")
}

/// How much of the table is shown, where it is not all.
fn filtered(model: &Model) -> String {
    if model.filter.is_empty() {
        return String::new();
    }
    let shown = model.table();
    format!("[{} of {} hold \"{}\"]", shown.rows.len(), shown.of, model.filter)
}

#[cfg(test)]
mod tests;
