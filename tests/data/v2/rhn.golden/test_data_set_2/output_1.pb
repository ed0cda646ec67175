Bstate_00_s_outJY1:ðË¦>
B=›Û³<