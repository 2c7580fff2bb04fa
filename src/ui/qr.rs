//! QR codes made of half blocks, two rows of modules in one line of text.

use qrcode::{Color, EcLevel, QrCode};

use super::paint::Paint;

/// Light modules around the code, which readers need.
const QUIET_ZONE: usize = 4;
/// Columns of a terminal that does not tell its width.
const COLUMNS_DEFAULT: usize = 80;

/// `secret` as a QR code, or a line that says why there is none. Tickets and codes are read in either case; in upper case
/// they take less space.
pub(super) fn drawn(secret: &str, paint: Paint) -> String {
    draw(&secret.to_ascii_uppercase(), columns(), paint)
}

fn draw(text: &str, columns: usize, paint: Paint) -> String {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else {
        return "it is too long for a QR code\n\n".to_owned();
    };
    let side = code.width() + 2 * QUIET_ZONE;
    if side > columns {
        return format!("the QR code needs {side} columns, and this terminal has {columns}\n\n");
    }
    let is_dark = |x: usize, y: usize| {
        let inside = QUIET_ZONE..QUIET_ZONE + code.width();
        inside.contains(&x) && inside.contains(&y) && code[(x - QUIET_ZONE, y - QUIET_ZONE)] == Color::Dark
    };
    let block = |x: usize, y: usize| {
        // Without colours, most terminals show light text on a dark ground.
        let filled = |y| is_dark(x, y) == paint.is_on();
        match (filled(y), filled(y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        }
    };
    let line = |y| paint.on_light(&(0..side).map(|x| block(x, y)).collect::<String>()) + "\n";
    (0..side).step_by(2).map(line).collect::<String>() + "\n"
}

/// Columns of the terminal at standard error.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS_DEFAULT)
}

#[cfg(test)]
mod tests {
    use qrcode::types::Version;

    use super::*;
    use crate::auth::Ticket;
    use crate::testing::ticket::TICKET;

    /// The modules that `drawn` shows; true is dark.
    fn modules(drawn: &str, filled_is_dark: bool) -> Vec<Vec<bool>> {
        let lines: Vec<Vec<char>> =
            drawn.trim_end_matches('\n').lines().map(|l| l.chars().collect()).collect();
        let half = |line: &Vec<char>, full: [char; 2]| -> Vec<bool> {
            line.iter().map(|block| full.contains(block) == filled_is_dark).collect()
        };
        lines.iter().flat_map(|line| [half(line, ['█', '▀']), half(line, ['█', '▄'])]).collect()
    }

    #[test]
    fn a_ticket_is_drawn_in_the_alphanumeric_mode_and_fits() {
        let text = TICKET.to_ascii_uppercase();
        let code = QrCode::with_error_correction_level(&text, EcLevel::L).unwrap();
        // Byte mode would need a larger version.
        assert_eq!(code.version(), Version::Normal(4));
        let drawn = draw(&text, 80, Paint::new(false));
        let shown = modules(&drawn, false);
        let side = code.width() + 2 * QUIET_ZONE;
        assert!(drawn.lines().filter(|line| !line.is_empty()).all(|line| line.chars().count() == side));
        for (y, row) in shown.iter().enumerate().take(side) {
            for (x, dark) in row.iter().enumerate() {
                let inside = QUIET_ZONE..QUIET_ZONE + code.width();
                let expected = inside.contains(&x)
                    && inside.contains(&y)
                    && code[(x - QUIET_ZONE, y - QUIET_ZONE)] == Color::Dark;
                assert_eq!(*dark, expected, "{x} {y}");
            }
        }
        let coloured = draw(&text, 80, Paint::new(true));
        assert!(
            coloured.lines().filter(|line| !line.is_empty()).all(|line| line.starts_with("\x1b[30;107m"))
        );
    }

    #[test]
    fn the_longest_ticket_fits_80_columns_and_a_narrow_terminal_is_told_why_not() {
        let ticket: Ticket = TICKET.parse().unwrap();
        let address = ticket.addresses[1];
        let longest = Ticket { addresses: vec![address; crate::auth::ADDRESSES_MAX], ..ticket };
        let text = longest.to_string().to_ascii_uppercase();
        assert!(draw(&text, 80, Paint::new(false)).contains('█'));
        assert_eq!(
            draw(&TICKET.to_ascii_uppercase(), 40, Paint::new(false)),
            "the QR code needs 41 columns, and this terminal has 40\n\n"
        );
    }
}
